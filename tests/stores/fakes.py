"""A store that answers what it is told to, on a real socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.python.failure import Failure

from resumable.stores.s3.client import S3Store
from resumable.stores.transport.pool import Transport

R: Any = reactor


class FakeTime:
    """The reactor, but for its clock."""

    def __init__(self) -> None:
        self.passed = 0.0

    def seconds(self) -> float:
        return self.passed

    def __getattr__(self, name: str) -> Any:
        return getattr(R, name)


@define
class Received:
    head: str
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == name.lower():
                return value
        return None


class Connection(Protocol):
    factory: FakeStore

    def connectionMade(self) -> None:
        self.data = bytearray()
        self.begun: Received | None = None
        self.answered = False  # before the body was in
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        while self._take():
            pass

    def _take(self) -> bool:
        """Take a head or a body; False if it is not there yet."""
        if self.begun is None:
            end = self.data.find(b"\r\n\r\n")
            if end < 0:
                return False
            self.begun = Received(self.data[:end].decode(), b"")
            del self.data[: end + 4]
            if self.factory.early is not None:
                early, self.factory.early = self.factory.early, None
                self.answered = True
                early(self)
        length = int(self.begun.header("content-length") or 0)
        if len(self.data) < length:
            return False
        received, self.begun = Received(self.begun.head, bytes(self.data[:length])), None
        del self.data[:length]
        self.factory.requests.append(received)
        # One that was answered early may be followed by the next at once.
        answered, self.answered = self.answered, False
        if not answered:
            self.factory.answers.pop(0)(self)
        return True

    def connectionLost(self, reason: Failure = None) -> None:  # type: ignore[assignment]
        self.factory.connections.remove(self)


class FakeStore(Factory):
    """Answers each request with the next of `answers`; with `early`, the first one as soon as its head is there."""

    protocol = Connection
    noisy = False

    def __init__(self, *answers: Callable[[Connection], None]) -> None:
        self.answers = list(answers)
        self.early: Callable[[Connection], None] | None = None
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self.tries: list[tuple[str, str]] = []
        self.stores: list[S3Store] = []
        self.port = R.listenTCP(0, self, interface="127.0.0.1")

    def store(self, *, silence: float = 30.0, **options: Any) -> S3Store:
        """A client of it that loses no time."""
        defaults = {"access_key": "key", "secret_key": "hidden", "patience": 5.0, "pauses": (0.01, 0.02)}
        store = S3Store(
            R,
            endpoint=f"http://127.0.0.1:{self.port.getHost().port}",
            observe=lambda operation, outcome, seconds: self.tries.append((operation, outcome)),
            transport=Transport(R, silence=silence),
            **{**defaults, **options},
        )
        self.stores.append(store)
        return store

    async def close(self) -> None:
        for store in self.stores:
            await store.close()
        for connection in self.connections:
            connection.transport.abortConnection()
        await maybeDeferred(self.port.stopListening)


def answer(
    status: int, body: str | bytes = b"", headers: dict[str, str] | None = None, missing: int = 0
) -> Callable[[Connection], None]:
    """A whole answer, or one of whose body so many bytes are missing when the connection ends."""
    content = body.encode() if isinstance(body, str) else body
    fields = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = f"HTTP/1.1 {status} X\r\n{fields}Content-Length: {len(content) + missing}\r\n\r\n"

    def send(connection: Connection) -> None:
        connection.transport.write(head.encode() + content)
        if missing:
            connection.transport.loseConnection()

    return send


def error(status: int, code: str, headers: dict[str, str] | None = None) -> Callable[[Connection], None]:
    return answer(status, f"<Error><Code>{code}</Code><Message>so it is</Message></Error>", headers)


def stored(etag: str = "e") -> Callable[[Connection], None]:
    return answer(200, headers={"ETag": f'"{etag}"'})


def completed(etag: str = "e") -> Callable[[Connection], None]:
    # AWS keeps the connection alive with blanks before, and within, the document.
    body = '<?xml version="1.0"?>\n   \n<CompleteMultipartUploadResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    return answer(200, f'  {body}<ETag>"{etag}"</ETag></CompleteMultipartUploadResult>')


def cut(connection: Connection) -> None:
    connection.transport.abortConnection()


def nothing(connection: Connection) -> None:
    """No answer at all."""
