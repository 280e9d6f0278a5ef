"""``python -m bench.sink``: run the sink by itself, and print its port."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.limits import raise_file_limit
from bench.sink.server import SinkServer


def main() -> None:
    """Listen and serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m bench.sink", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: a free one)")
    parser.add_argument(
        "--tls-port", type=int, default=0, help="port for TLS (default: a free one, with --certificate)"
    )
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="certificate and key; without it no TLS")
    arguments = parser.parse_args()
    raise_file_limit()
    server = SinkServer(arguments.port, tls_port=arguments.tls_port, certificate=arguments.certificate)
    print(server.port, *([] if server.tls_port is None else [server.tls_port]), flush=True)
    server.run()


if __name__ == "__main__":
    main()
