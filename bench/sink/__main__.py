"""``python -m bench.sink``: run the sink by itself, and print its port."""

from __future__ import annotations

import argparse

from bench.limits import raise_file_limit
from bench.sink.server import SinkServer


def main() -> None:
    """Listen and serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    arguments = parser.parse_args()
    raise_file_limit()
    server = SinkServer(arguments.port)
    print(server.port, flush=True)
    server.run()


if __name__ == "__main__":
    main()
