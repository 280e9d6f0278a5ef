"""A store that misbehaves: a proxy in front of an S3 server that does one thing wrong, at the call a test names."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import WeakSet

from attrs import define
from crc32c import crc32c
from typing_extensions import Self

from resumable.crc32c_text import encode_crc32c
from tests.faults import tls
from tests.s3servers import S3Server

#: What can go wrong with any call.
FAULTS = (
    "500",
    "503",
    "SlowDown",
    "break before",  # the connection is reset when the request is in, and nothing is done
    "break after",  # the work is done, the answer is lost
    "break in the body",  # the connection is reset in the middle of the request
    "cut short",  # the work is done, the answer stops in its middle
    "late",
)
#: An error after the status 200, as Amazon S3 answers a CompleteMultipartUpload that has failed.
ERROR_IN_200 = "200 with an error"

#: Beside them, at one test or another: a 503 that asks for so many seconds ("503 for 2"), the page of an ingress in front of
#: the store ("404 page"), a refusal of the store's own ("400 InvalidPart"), and this: the connection breaks, and what was
#: asked is done `LATE` seconds later.
LANDS_LATE = "lands late"
#: A bit is flipped on the way to the store. It sees that by the checksum that was sent along, as S3 does; or it does not, and
#: answers as if all was well.
FLIPPED, FLIPPED_UNSEEN = "flipped", "flipped unseen"

_CODES = {"500": "InternalError", "503": "ServiceUnavailable", "SlowDown": "SlowDown"}
LATE = 1.0


@define
class Rule:
    """What shall go wrong: at the `nth` call of a kind (from 1; 0: at every one) whose target contains `where`."""

    kind: str
    nth: int
    fault: str
    where: str = ""
    #: Called when it is the turn of this rule, before anything is done (after the work where that is done).
    then: Callable[[], object] | None = None
    seen: int = 0
    hit: bool = False


class FaultyS3:
    """The proxy. Path-style addresses only; what it passes on it passes on unchanged.

    :ivar counts: calls by kind, since `reset`.
    """

    def __init__(self, behind: S3Server, secure: ssl.SSLContext | None = None) -> None:
        """
        :param secure: with what it speaks TLS; then it can do what `tests.faults.tls` names, too.
        """
        self.secure = secure
        self.bucket, self.access_key, self.secret_key = behind.bucket, behind.access_key, behind.secret_key
        self.behind = behind
        self.counts: Counter[str] = Counter()
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._gone: set[str] = set()
        self._secured: WeakSet[tls.TlsServerEnd] = WeakSet()
        self._begun: dict[bytes, float] = {}
        address = urlsplit(behind.endpoint)
        assert address.hostname is not None
        self._address = (address.hostname, address.port)
        proxy = self

        class Handler(_Handler):
            faulty = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http" if secure is None else "https"
        self.endpoint = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    def boto3(self) -> Any:
        """A client of the server behind."""
        return self.behind.boto3()

    def reset(self) -> None:
        """Count from here, and do everything right."""
        with self._lock:
            self.counts.clear()
            self._rules.clear()

    def fail(
        self, kind: str, fault: str, nth: int = 1, *, where: str = "", then: Callable[[], object] | None = None
    ) -> Rule:
        """From now on do this wrong; the rule says later whether it has come to it."""
        rule = Rule(kind, nth, fault, where, then)
        with self._lock:
            self._rules.append(rule)
        return rule

    def mend(self) -> None:
        """Do everything right from here on."""
        with self._lock:
            self._rules.clear()

    def hang_up(self) -> None:
        """End all connections over TLS."""
        for secured in list(self._secured):
            with contextlib.suppress(OSError):
                secured.bare.shutdown(socket.SHUT_RDWR)

    def rule_for(self, kind: str, target: str) -> Rule | None:
        """Count the call; the rule whose turn it is."""
        with self._lock:
            self.counts[kind] += 1
            found = None
            for rule in self._rules:
                if rule.kind in (kind, "*") and rule.where in target:
                    rule.seen += 1
                    if found is None and rule.nth in (0, rule.seen):
                        found = rule
                        rule.hit = True
            return found

    def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """Have the server behind do it."""
        # moto answers 500 where S3 knows no such upload; so that a lost answer can be told from trouble:
        multipart = parse_qs(urlsplit(target).query).get("uploadId", [""])[0]
        if multipart in self._gone and method in ("PUT", "POST", "GET"):
            return 404, {"Content-Type": "application/xml"}, error_body("NoSuchUpload")
        status, fields, said = self.pass_on(method, target, headers, body)
        if multipart and status < 300 and method in ("POST", "DELETE"):
            self._gone.add(multipart)
        query = parse_qs(urlsplit(target).query, keep_blank_values=True)
        if "uploads" in query:
            said = self._dated(said, begun=method == "POST")
        return status, fields, said

    def pass_on(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        """Send it to the server behind; return status, headers and body of the answer."""
        connection = http.client.HTTPConnection(*self._address, timeout=60)
        try:
            connection.request(method, target, body or None, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def _dated(self, said: bytes, *, begun: bool) -> bytes:
        """moto has begun all multipart uploads in 2010: in its listings, have each begun when it was."""
        if begun:
            self._begun.update(dict.fromkeys(re.findall(rb"<UploadId>(.*?)</UploadId>", said), time.time()))
        for multipart, at in self._begun.items():
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at)).encode()
            pattern = rb"(<UploadId>" + re.escape(multipart) + rb"</UploadId>.*?<Initiated>).*?(</Initiated>)"
            said = re.sub(pattern, rb"\g<1>" + when + rb"\g<2>", said, flags=re.DOTALL)
        return said


def kind_of(method: str, target: str) -> str:
    """The S3 operation; a fragment's PutObject, GetObject and DeleteObject have names of their own."""
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if "uploadId" in query:
        operations = {"PUT": "UploadPart", "POST": "Complete", "DELETE": "Abort", "GET": "ListParts"}
        return operations[method]
    if "uploads" in query:
        return "Create" if method == "POST" else "ListMultipartUploads"
    if unquote(parts.path).count("/") < 2 or parts.path.endswith("/bucket/"):
        return {"GET": "ListObjects", "POST": "DeleteObjects"}.get(method, f"{method} bucket")
    what = "Fragment" if "/.resumable/" in unquote(parts.path) else "Object"
    return {"PUT": "Put", "GET": "Get", "DELETE": "Delete", "HEAD": "Head"}[method] + what


def error_body(code: str) -> bytes:
    """An error as S3 writes it."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>as the test wants it</Message>'
        "<RequestId>1</RequestId></Error>"
    ).encode()


class _Handler(BaseHTTPRequestHandler):
    faulty: FaultyS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    secure: tls.TlsServerEnd | None = None

    def _serve(self) -> None:
        rule = self.faulty.rule_for(kind_of(self.command, self.path), self.path)
        fault = rule.fault if rule is not None else ""
        size = int(self.headers.get("Content-Length", 0))
        if fault == "break in the body":
            self.rfile.read(size // 2)
            if rule is not None and rule.then is not None:
                rule.then()
            self._reset()
            return
        if self.secure is not None and fault in (*tls.BODY, *tls.CALM):
            # Several times: what may come at any time may come often.
            parts = [self.rfile.read(size // 4)]
            for _ in range(3):
                self.secure.disturb(fault)
                parts.append(self.rfile.read(size // 4))
            body = b"".join(parts) + self.rfile.read(size - 3 * (size // 4) - size // 4)
            if self.secure.flips:
                # All of the body was there already. The next request on the connection is not to have it instead.
                self._reset()
                return
        else:
            body = self.rfile.read(size)
        if len(body) < size:  # the service has gone away
            self.close_connection = True
            return
        after = fault in ("break after", "cut short", *tls.ANSWER)
        if rule is not None and rule.then is not None and not after:
            rule.then()
        if fault == "late":
            time.sleep(LATE)
        if fault in (FLIPPED, FLIPPED_UNSEEN):
            body = body[: size // 2] + bytes([body[size // 2] ^ 1]) + body[size // 2 + 1 :]
        if fault == FLIPPED and self.headers.get("x-amz-checksum-crc32c") != encode_crc32c(crc32c(body)):
            self._say(400, {"Content-Type": "application/xml"}, error_body("BadDigest"))
            return
        if fault == LANDS_LATE:
            self._reset()
            time.sleep(LATE)
            self.faulty.ask(self.command, self.path, dict(self.headers.items()), body)
            return
        if fault == "break before":
            self._reset()
        elif fault == ERROR_IN_200:
            self._say(200, {"Content-Type": "application/xml"}, error_body("InternalError"))
        elif fault.startswith("503 for "):
            headers = {"Content-Type": "application/xml", "Retry-After": fault[8:]}
            self._say(503, headers, error_body("SlowDown"))
        elif fault.endswith(" page"):
            self._say(int(fault[:3]), {"Content-Type": "text/html"}, b"<html><body>not here</body></html>")
        elif re.fullmatch(r"\d{3} [\w.]+", fault):  # a refusal: "400 InvalidPart"
            self._say(int(fault[:3]), {"Content-Type": "application/xml"}, error_body(fault[4:]))
        elif fault in _CODES:
            status = 500 if fault == "500" else 503
            self._say(status, {"Content-Type": "application/xml"}, error_body(_CODES[fault]))
        else:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            answer = self.faulty.ask(self.command, self.path, headers, body)
            if after and rule is not None and rule.then is not None:
                rule.then()
            if fault == "break after":
                self._reset()
            else:
                self._say(*answer, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _say(self, status: int, headers: Any, body: bytes, fault: str = "") -> None:
        lines = [f"HTTP/1.1 {status} {http.client.responses[status]}"]
        kept = [(name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP]
        if self.command == "HEAD" and "Content-Length" in headers:
            kept.append(("Content-Length", headers["Content-Length"]))
        elif status != 204:
            kept.append(("Content-Length", str(len(body))))
        lines += [f"{name}: {value}" for name, value in kept]
        answer = "\r\n".join([*lines, "", ""]).encode() + (b"" if self.command == "HEAD" else body)
        if self.secure is not None and fault in tls.ANSWER:
            self.secure.answer_wrongly(fault, answer, LATE)
            self.close_connection = fault != "record stalled"
        elif fault == "cut short":
            # In the middle of the body, or of the head where there is none.
            self.wfile.write(answer[: -max(1, len(body) // 2)] if body else answer[: len(answer) // 2])
            self._reset()
        else:
            self.wfile.write(answer)

    def _reset(self) -> None:
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def handle(self) -> None:
        with contextlib.suppress(OSError):  # the service has gone away, or was killed
            if self.faulty.secure is not None:
                self.secure = tls.TlsServerEnd(self.request, self.faulty.secure)
                self.rfile, self.wfile = io.BufferedReader(self.secure, 65536), self.secure  # type: ignore[assignment]
                self.faulty._secured.add(self.secure)
                rule = self.faulty.rule_for("Handshake", "")
                self.secure.handshake("" if rule is None else rule.fault)
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass


_HOP_BY_HOP = {"connection", "content-length", "transfer-encoding", "keep-alive", "server", "date"}
