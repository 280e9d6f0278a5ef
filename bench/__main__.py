"""``python -m bench``."""

import signal
import sys

from bench.cli import main

# So that servers and sink are ended when somebody ends this.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
sys.exit(main())
