"""Another owner's upload costs the ledger what an unknown one costs: no answer comes sooner or later for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from pytest_twisted import async_yield_fixture, ensureDeferred
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import AuthorizationRequest, Grant
from resumable.model import NotFound
from resumable.protocols.access import Gate
from resumable.protocols.base import Protocol, Target
from resumable.protocols.origin import Origin
from resumable.protocols.put import PutProtocol
from resumable.protocols.results import Results
from resumable.protocols.session import SessionProtocol
from resumable.uploads.policy import CreateRequest
from tests.uploads.wiring import House, ledger_in


class Counted:
    """A ledger that notes what is asked of it."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self._ledger, name)


@define
class Request:
    """One that brings no body."""

    method: bytes
    requestHeaders: Headers = field(factory=Headers)
    uri: bytes = b"/"
    path: bytes = b"/"
    length: int | None = 0
    origin: Origin = field(factory=lambda: Origin("192.0.2.1", "http://test"))

    async def pour_into(self, consumer: Any) -> None:
        pytest.fail("nobody wants the body")


class Door:
    """Lets everybody in as the owner who is named."""

    owner = "alice"

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        return Grant(owner=self.owner)

    async def close(self) -> None:
        pass


@async_yield_fixture
async def wiring(tmp_path: Path) -> AsyncIterator[House]:
    async with ledger_in(tmp_path) as ledger:
        yield House(Counted(ledger))


REQUESTS = [
    *[(method, None) for method in (b"GET", b"HEAD", b"DELETE")],
    *[(b"PUT", range_) for range_ in ("bytes */*", "bytes */100", "bytes 5-9/100", "bytes 5-9/*")],
]


@ensureDeferred
async def test_the_same_work(wiring: House) -> None:
    authorizer = Door()
    put = PutProtocol(Gate(wiring.uploads, authorizer, "put"), Results())
    session = SessionProtocol(Gate(wiring.uploads, authorizer, "session"), Results())
    upload = await wiring.uploads.create(CreateRequest("put", "film", owner="alice", length=100))

    async def work(protocol: Protocol, method: bytes, range_: str | None, target: Target) -> list[str]:
        """What is asked of the ledger, to say that there is no such upload."""
        wiring.ledger.calls.clear()
        headers = Headers({"Content-Range": [range_]} if range_ else {})
        length = 5 if range_ and "5-9" in range_ else 0
        with pytest.raises(NotFound, match="no such upload"):
            await protocol.handle(Request(method, headers, length=length), target)
        return list(wiring.ledger.calls)

    authorizer.owner = "mallory"
    for method, range_ in REQUESTS:
        theirs = await work(put, method, range_, Target(name=b"film"))
        asking = method in (b"GET", b"HEAD") or (range_ or "").startswith("bytes *")
        expected = ["newest" if asking else "find"]
        assert theirs == await work(put, method, range_, Target(name=b"none")) == expected
    for method, range_ in REQUESTS:
        theirs = await work(session, method, range_, Target(upload_id=upload.id))
        assert theirs == await work(session, method, range_, Target(upload_id="none")) == ["get"]
