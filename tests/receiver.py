"""The main application's other side: it receives events, checks their signatures, and can be down."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from attrs import frozen
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@frozen
class Heard:
    """An event as it came; `number` counts all that came, from 1."""

    number: int
    id: str
    at: float
    body: dict[str, Any]

    @property
    def type(self) -> str:
        return str(self.body["type"])

    @property
    def upload(self) -> str:
        return str(self.body["data"]["id"])


Reply = tuple[int, dict[str, str], bytes]


class Receiver:
    """A server on a port that stays its own, up or down.

    :ivar heard: every event that came whole, whatever was answered.
    :ivar wrong: what was wrong with signatures.
    :ivar answer: called with each; returns status, headers and body; None breaks the connection off.
    """

    def __init__(self, secret: str | None = SECRET) -> None:
        self.heard: list[Heard] = []
        self.wrong: list[str] = []
        self.answer: Callable[[Heard], Reply | None] = lambda heard: (204, {}, b"")
        #: Whether what has a wrong signature gets a 401, as it should. Else it is noted in `wrong`.
        self.refuses_forged = False
        self._webhook = Webhook(secret) if secret else None
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/hooks"

    def up(self) -> None:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                reply = receiver._take(dict(self.headers.items()), body)
                if reply is None:
                    self.close_connection = True
                    return
                status, headers, content = reply
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                if status != 204:
                    self.wfile.write(content)

            def do_GET(self) -> None:
                self.send_response(405)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_HEAD = do_OPTIONS = do_GET

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                pass  # the service was killed

        self._server = Server(("127.0.0.1", self._port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Listen no more; whoever connects is refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Receiver:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()

    def _take(self, headers: dict[str, str], body: bytes) -> Reply | None:
        names = {name.lower(): value for name, value in headers.items()}
        at = float(names["webhook-timestamp"])
        if self._webhook is not None:
            signature = self._webhook.sign(
                names["webhook-id"], datetime.fromtimestamp(at, timezone.utc), body.decode("ascii")
            )
            right = signature in names["webhook-signature"].split()
            if not right and self.refuses_forged:
                return 401, {}, b"forged"
            if not right:
                self.wrong.append(names["webhook-signature"])
        with self._lock:
            heard = Heard(len(self.heard) + 1, names["webhook-id"], at, json.loads(body))
            self.heard.append(heard)
        return self.answer(heard)

    def of(self, upload: str) -> list[Heard]:
        """What was heard of an upload, in the order in which it came."""
        return [heard for heard in self.heard if heard.upload == upload]
