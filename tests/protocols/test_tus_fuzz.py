"""tus, said wrongly in every way: headers that are nearly right or nonsense, and bodies that are not what they are said to be.

Whatever it is: never a 500, never a traceback in the log, and never an upload of which its client was not told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field, frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from sqlalchemy import select
from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, globalLogPublisher

from resumable.ledger.schema import uploads
from tests.protocols.harness import Answer, Memory, memory_service, parse_answers, until
from tests.protocols.test_tus import V, b64, begin, patch
from tests.web.wire import Wire

BODY = b"hello, these are bytes of three chunks: 48"
#: How long the uploads are that requests are made to (bytes).
LENGTH = 45
#: What has been stored of them.
STORED = 20

#: Well-formed values of each header, some of which fit what else is said.
VALID: dict[str, list[str]] = {
    "Tus-Resumable": ["1.0.0"],
    "Upload-Length": [
        "0",
        "5",
        str(len(BODY)),
        str(LENGTH),
        str(LENGTH),
        "99",
        "18446744073709551616",
        str(5 * 2**40),
        str(2**62),
    ],
    "Upload-Offset": ["0", str(STORED), str(LENGTH), str(2**63 - 1)],
    "Upload-Defer-Length": ["1"],
    "Upload-Metadata": ["", f"filename {b64('f')}", f"name {b64('n')},type {b64('a/b')},k {b64('v')}", "only"],
    "Upload-Checksum": [f"sha1 {b64(hashlib.sha1(BODY).digest())}", f"md5 {b64(b'no')}", f"crc32c {b64(b'1234')}"],
    "Upload-Concat": ["partial", "final;/files/a /files/b", "final;"],
    "X-HTTP-Method-Override": ["PATCH", "POST", "HEAD", "DELETE", "GET", "OPTIONS"],
    "Content-Type": ["application/offset+octet-stream"] * 5
    + ["application/octet-stream", "multipart/form-data; boundary=b"],
    "Content-Encoding": ["gzip", "identity", "aws-chunked"],
    "Trailer": ["Upload-Checksum", "Upload-Checksum, X"],
    "Expect": ["100-continue"],
}
NONSENSE = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=20)


@st.composite
def nearly(draw: st.DrawFn, valid: str) -> str:
    """A value with one thing wrong."""
    at = draw(st.integers(0, len(valid)))
    inserted = draw(st.sampled_from([" ", ",", "\t", "-", "+", "0", ".", ";", "=", "\xb2", "\xff", "\x00", "x", "%"]))
    changed = (
        valid[:at] + inserted + valid[at:],
        valid[:at],
        valid.upper(),
        valid.lower(),
        valid * 2,
        f"{valid},{valid}",
    )
    return draw(st.sampled_from(changed))


@st.composite
def header(draw: st.DrawFn, name: str, wrong: bool) -> list[str]:
    """The lines of a header."""
    valid = draw(st.sampled_from(VALID[name]))
    how = draw(st.sampled_from(["nearly", "nearly", "nonsense", "twice"])) if wrong else "valid"
    if how == "twice":
        return [f"{name}: {valid}", f"{name}: {draw(st.sampled_from(VALID[name]))}"]
    value = {"valid": st.just(valid), "nearly": nearly(valid), "nonsense": NONSENSE}[how]
    return [f"{name}: {draw(value)}"]


#: What is said of the body: how many bytes more than there are, or how it is framed.
FRAMING = st.sampled_from(["exact"] * 10 + ["none", "more", "less", "chunked", "chunked", "broken chunks", "cut chunks",
                                           "negative", "words", "twice", "absurd", "both"])  # fmt: skip


@frozen
class Example:
    """A request, and how its client goes on where more is wanted than it has: it vanishes, or says nothing more."""

    method: str
    target: str
    lines: list[str]
    framing: str
    body: bytes
    vanishes: bool

    @property
    def framed(self) -> tuple[list[str], bytes]:
        """Header lines about the body, and the bytes that are sent."""
        size, body = len(self.body), self.body
        chunks = b"%x\r\n%s\r\n" % (size, body) if body else b""
        trailer = f"Upload-Checksum: sha1 {b64(hashlib.sha1(body).digest())}\r\n".encode()
        coded = ["Transfer-Encoding: chunked"]
        return {
            "exact": ([f"Content-Length: {size}"], body),
            "none": ([], b""),
            "more": ([f"Content-Length: {size + 7}"], body),
            "less": ([f"Content-Length: {size // 2}"], body),
            "chunked": (coded, chunks + b"0\r\n" + trailer + b"\r\n"),
            "broken chunks": (coded, chunks + b"zz\r\n"),
            "cut chunks": (coded, chunks),
            "negative": (["Content-Length: -5"], body),
            "words": (["Content-Length: five"], body),
            "twice": ([f"Content-Length: {size}", f"Content-Length: {size + 1}"], body),
            "absurd": ([f"Content-Length: {10**25}"], body),
            "both": ([f"Content-Length: {size}", *coded], chunks + b"0\r\n\r\n"),
        }[self.framing]


@st.composite
def requests(draw: st.DrawFn) -> Example:
    """Mostly nearly what a client would say."""
    creates = draw(st.booleans())
    usual = ["POST"] if creates else ["PATCH", "PATCH", "PATCH", "HEAD", "DELETE"]
    method = draw(st.sampled_from(usual * 6 + ["GET", "OPTIONS", "PUT", "POST", "PATCH"]))
    target = draw(
        st.sampled_from(["/files/", "/files"] if creates else ["open", "deferred", "finished", "/files/none"])
    )
    likely = ["Tus-Resumable", "Content-Type"] + (
        ["Upload-Length", "Upload-Metadata"] if creates else ["Upload-Offset"]
    )
    names = [name for name in likely if draw(st.integers(0, 19))]
    others = [name for name in VALID if name not in likely]
    names += draw(st.lists(st.sampled_from(others), unique=True, max_size=2))
    wrong = draw(st.lists(st.sampled_from([*names, "none"]), max_size=2)) if draw(st.booleans()) else []
    lines = [line for name in names for line in draw(header(name, name in wrong))]
    body = draw(st.sampled_from([BODY, BODY, BODY[:5], BODY[STORED:], b""]))
    return Example(method, target, lines, draw(FRAMING), body, draw(st.booleans()))


def examples(count: int) -> list[Example]:
    found: list[Example] = []

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(requests())
    def collect(example: Example) -> None:
        found.append(example)

    collect()
    return found


@define
class Fuzzed:
    """The service, the uploads that requests are made to, and those that somebody was told of."""

    service: Memory
    paths: dict[str, str] = field(factory=dict)
    told: set[str] = field(factory=set)

    async def prepare(self, target: str) -> str:
        """The path of a target; a new upload if there is none."""
        if target.startswith("/"):
            return target
        if target not in self.paths:
            deferred = target == "deferred"
            headers = ["Upload-Defer-Length: 1"] if deferred else []
            path = await begin(self.service, *headers, length=None if deferred else LENGTH)
            await patch(self.service, path, 0, bytes(LENGTH if target == "finished" else STORED))
            self.paths[target] = path
            self.told.add(path.rpartition("/")[2])
        return self.paths[target]

    async def say(self, example: Example) -> list[Answer]:
        """Send the request; all that is answered, which may be nothing where the client vanishes."""
        path = await self.prepare(example.target)
        wire = self.service.connect()
        about, body = example.framed
        lines = [f"{example.method} {path} HTTP/1.1", "Host: test", *example.lines, *about, "", ""]
        wire.send("\r\n".join(lines).encode("latin-1"), body)
        await until(lambda: finals(wire, example) or waits(wire))
        if not finals(wire, example):
            # It may have been answered by the time that nothing more can come.
            wire.lose() if example.vanishes else wire.clock.advance(31)
        if not example.vanishes:
            await until(lambda: finals(wire, example))
        answers = finals(wire, example)
        self.told |= {(answer.header("Location") or "").rpartition("/")[2] for answer in answers}
        # What was done to it is not what the next request is made to.
        self.paths.pop(example.target, None)
        return answers

    async def untold(self) -> list[Any]:
        """Uploads that live, or have become an object, and of which nobody was told."""
        query = select(uploads.c.id, uploads.c.state, uploads.c.length)
        rows = await self.service.parts.ledger._database.read(lambda connection: connection.execute(query).all())
        return [row for row in rows if row.id not in self.told and row.state in ("open", "finishing", "finished")]


def finals(wire: Wire, example: Example) -> list[Answer]:
    # (What comes after a body that is longer than it is said to be is taken for requests.)
    return [answer for answer in parse_answers(wire.said, [example.method, *["GET"] * 50]) if answer.status >= 200]


def waits(wire: Wire) -> bool:
    """Whether the service wants more of a body."""
    return bool(wire.channel.requests) and wire.channel.requests[-1]._outlet is not None and not wire.paused


@pytest.fixture
def errors() -> Iterator[list[Any]]:
    """What was logged as an error, or with a traceback."""
    found: list[Any] = []

    def observe(event: Any) -> None:
        if event.get("log_failure") is not None or event.get("log_level", LogLevel.info) >= LogLevel.error:
            found.append(event)

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


@ensureDeferred
async def test_whatever_is_said(errors: list[Any]) -> None:
    statuses: dict[int, int] = {}
    async with memory_service() as service:
        fuzzed = Fuzzed(service)
        for example in examples(450):
            for answer in await fuzzed.say(example):
                statuses[answer.status] = statuses.get(answer.status, 0) + 1
                assert answer.status < 500 or answer.status == 501, (example, answer)
            assert errors == [], example
            for _ in range(100):
                untold = await fuzzed.untold()
                if not untold:
                    break
                await deferLater(reactor, 0.002)  # type: ignore[arg-type]
            assert untold == [], example
        # It is no fuzz if nothing gets through, or everything.
        assert {200, 201, 204, 400, 404, 409, 412, 413, 415} <= set(statuses), statuses
        assert min(statuses[201], statuses[204], statuses[400]) > 20, statuses
        for upload_id in fuzzed.told:
            await service.ask("DELETE", f"/files/{upload_id}", [V])
        bucket = service.parts.bucket
        await until(
            lambda: not bucket.multiparts and not [key for key in bucket.objects if key.startswith(".resumable/")]
        )
