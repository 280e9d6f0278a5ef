"""``python -m bench``."""

import signal
import sys

from bench.cli import main

# SIGTERM ends this with an exception, so that servers and sink are ended too.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
sys.exit(main())
