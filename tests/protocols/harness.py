"""The service without a process: the real connection, router and protocols, on a transport, a store and a ledger in memory."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from attrs import frozen
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import AuthorizationRequest, Authorizer, Grant, Refused
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.schema import metadata
from resumable.protocols.base import Protocol
from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.results import Results
from resumable.stores.port import Store
from resumable.web.router import Router
from tests.uploads.wiring import House
from tests.web.wire import Wire


class Door:
    """The main application: says yes as `owner`, unless the action is among `refused`; notes what it was asked."""

    def __init__(self, owner: str = "", refused: Sequence[str] = (), **grant: Any) -> None:
        self.owner = owner
        self.refused = refused
        self.grant = grant
        self.asked: list[AuthorizationRequest] = []

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        self.asked.append(ask)
        if ask.action in self.refused:
            raise Refused(403, Headers({"Content-Type": ["text/plain"]}), b"not you")
        return Grant(owner=self.owner, **self.grant)

    async def close(self) -> None:
        """Nothing to close."""


@frozen
class Answer:
    """A final answer as the client reads it."""

    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        lines = self.headers.getRawHeaders(name)
        return lines[-1] if lines else None


def parse_answers(said: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """The answers in what the service wrote; of an unfinished one nothing.

    :param methods: of the requests; an answer to HEAD has no body.
    """
    found: list[Answer] = []
    while b"\r\n\r\n" in said:
        head, _, rest = said.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = Headers()
        for line in lines:
            name, _, value = line.partition(": ")
            headers.addRawHeader(name, value)
        status = int(first.split(" ")[1])
        method = methods[len([one for one in found if one.status >= 200])] if methods else "GET"
        bodiless = method == "HEAD" or status < 200 or status in (204, 304)
        length = 0 if bodiless else int((headers.getRawHeaders("content-length") or ["0"])[0])
        if len(rest) < length:
            break
        found.append(Answer(status, headers, rest[:length]))
        said = rest[length:]
    return found


class Memory:
    """A service in memory.

    :ivar parts: the upload service and what it works with.
    """

    def __init__(
        self,
        ledger: Any,
        authorizer: Authorizer,
        more: Sequence[Callable[[House], Protocol]] = (),
        store: Store | None = None,
        **rules: Any,
    ) -> None:
        self.parts = House(ledger, store, **rules)
        self.authorizer = authorizer
        names = [name for name, _ in PROTOCOLS]
        self.protocols = [
            *(make(self.parts) for make in more),
            *make_protocols(names, self.parts.uploads, authorizer, Results()),
        ]
        self.router = Router(self.protocols, {})

    def connect(self) -> Wire:
        """A new connection."""
        return Wire(root=self.router)

    async def ask(
        self, method: str, target: str, headers: Sequence[str] = (), body: bytes | None = None, *, final: int = 1
    ) -> Answer:
        """One request on a connection of its own; its final answer.

        :param headers: lines ``Name: value``.
        :param body: sent with Content-Length.
        """
        wire = self.connect()
        lines = [f"{method} {target} HTTP/1.1", "Host: test", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        wire.send("\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b""))

        def finals() -> list[Answer]:
            return [one for one in parse_answers(wire.said, [method]) if one.status >= 200]

        await until(lambda: len(finals()) >= final)
        return finals()[-1]


async def until(true: Callable[[], object]) -> None:
    """Wait for what the ledger, which works in threads, makes true."""
    for _ in range(2000):
        if true():
            return
        await deferLater(reactor, 0.002)  # type: ignore[arg-type]
    raise AssertionError("nothing came of it")


@asynccontextmanager
async def memory_service(
    authorizer: Authorizer | None = None,
    more: Sequence[Callable[[House], Protocol]] = (),
    store: Store | None = None,
    **rules: Any,
) -> AsyncIterator[Memory]:
    """A service whose ledger is SQLite in memory.

    :param store: in place of one in memory.
    :param rules: what is different from the default policy.
    """
    database = Database("sqlite://", reactor)  # type: ignore[arg-type]
    # As the migrations make them (a test compares), in a hundredth of the time.
    metadata.create_all(database._engine)
    database.start()
    try:
        yield Memory(Ledger(database), authorizer or Door(), more, store, **rules)
    finally:
        await database.close()
