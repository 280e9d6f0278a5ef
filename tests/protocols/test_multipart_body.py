"""Bodies made of several: each part a body of its own, wherever the network cuts, and never more in memory than was read."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from resumable.model import Interrupted, Invalid, TooLarge, Unsupported
from resumable.protocols.multipart_body import READ_SIZE, SECONDS, MultipartBody
from resumable.protocols.multipart_events import MOST_PART_HEADERS, PART_HEADERS_LIMIT, PREAMBLE_LIMIT
from resumable.protocols.response import Response
from resumable.protocols.small_body import SmallBodies
from tests.web.wire import Basin, Wire, head, statuses

TYPE = "multipart/form-data; boundary=b0und"
FILE = b"\r\n--b0un\r\n--b0undary\r\r\n" + bytes(range(256)) + b"\r\n-"
BODY = (
    b'\r\n--b0und\r\nContent-Disposition: form-data; name="field"\r\n\r\nvalue\r\n'
    b'--b0und\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa4"\r\nContent-Type: a/b\r\n\r\n'
    + FILE
    + b"\r\n--b0und  \r\n\r\n\r\n--b0und--\r\nepilogue"
)


class Source:
    """A body that the test gives bit by bit; remembers whether it is paused."""

    def __init__(self) -> None:
        self.consumer: Any = None
        self.ended: Deferred[None] = Deferred()
        self.paused = False
        self.stopped = False

    async def pour_into(self, consumer: Any) -> None:
        self.consumer = consumer
        consumer.registerProducer(self, True)
        try:
            await self.ended
        finally:
            consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.stopped = True
        if not self.ended.called:
            self.ended.callback(None)


def begun(content_type: str = TYPE, **options: Any) -> tuple[Source, MultipartBody]:
    source = Source()
    return source, MultipartBody(source, content_type, **options)


def asked(coroutine: Any) -> list[Any]:
    """What the coroutine gives, or its error, once it is there."""
    came: list[Any] = []
    Deferred.fromCoroutine(coroutine).addCallbacks(came.append, lambda failure: came.append(failure.value))
    return came


async def collect(body: MultipartBody) -> list[tuple[str | None, str | None, bytes]]:
    found = []
    async with body:
        async for part in body:
            basin = Basin()
            await part.pour_into(basin)
            found.append((part.name, part.filename, basin.data))
    return found


EXPECTED = [("field", None, b"value"), ("file", "ä", FILE), (None, None, b"")]


@pytest.mark.parametrize("kind", ["multipart/form-data", "Multipart/Related"])
def test_parts(kind: str) -> None:
    source, body = begun(f'{kind}; boundary="b0und"')
    came = asked(collect(body))
    source.consumer.write(BODY)
    assert came == []  # the request may still have trailers
    source.ended.callback(None)
    assert came == [EXPECTED]


def test_cut_at_every_byte() -> None:
    for cut in range(len(BODY) + 1):
        source, body = begun()
        came = asked(collect(body))
        source.consumer.write(BODY[:cut])
        source.consumer.write(BODY[cut:])
        source.ended.callback(None)
        assert came == [EXPECTED], cut


@given(st.lists(st.integers(0, len(BODY)), max_size=30).map(sorted), st.booleans())
def test_any_cuts_make_no_difference(cuts: list[int], bytewise: bool) -> None:
    source, body = begun()
    came = asked(collect(body))
    edges = range(len(BODY) + 1) if bytewise else [0, *cuts, len(BODY)]
    for first, end in pairwise(edges):
        source.consumer.write(BODY[first:end])
    source.ended.callback(None)
    assert came == [EXPECTED]


def test_nothing_is_read_while_nobody_takes() -> None:
    """Neither between the parts nor while the consumer of one pauses; and what waits is told."""
    source, body = begun()
    first = asked(body.next_part())
    assert not source.paused
    assert source.consumer.room == READ_SIZE
    source.consumer.write(b"--b0und\r\n\r\nabc")
    assert source.paused
    told: list[int] = []

    class Counts(Basin):
        room = 77

        def backlog(self, size: int) -> None:
            told.append(size)

    basin = Counts(lambda basin, data: basin.producer.pauseProducing())
    poured = asked(first[0].pour_into(basin))
    assert (basin.data, source.paused, source.consumer.room) == (b"abc", True, 77)
    source.consumer.write(b"defg")
    assert (basin.data, told[-1]) == (b"abc", 4)
    source.consumer.backlog(10)
    assert told[-1] == 14
    basin.on_write = None
    basin.producer.resumeProducing()
    assert (basin.data, told[-1], source.paused) == (b"abcdefg", 0, False)
    source.consumer.write(b"\r\n--b0und\r\n\r\n")
    assert poured == [None]
    assert basin.events == ["register", "unregister"]
    assert source.paused


def test_the_end_does_not_wait_for_a_paused_consumer() -> None:
    source, body = begun()
    part = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\nabc\r\n--b0und--")
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    assert asked(part[0].pour_into(basin)) == [None]
    assert basin.data == b"abc"


def test_a_large_segment_is_passed_on_as_it_is() -> None:
    source, body = begun()
    part = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\n")
    basin = Basin()
    asked(part[0].pour_into(basin))
    data = bytes(100_000)
    source.consumer.write(data)
    assert basin.chunks[0] is data


def test_a_part_that_nobody_takes_is_skipped() -> None:
    source, body = begun()
    first = asked(body.next_part())
    source.consumer.write(BODY[: BODY.index(b"value") + 2])
    second = asked(body.next_part())
    assert not source.paused
    source.consumer.write(BODY[BODY.index(b"value") + 2 :])
    assert [first[0].name, second[0].name] == ["field", "file"]
    assert isinstance(asked(first[0].pour_into(Basin()))[0], RuntimeError)
    third = asked(body.next_part())
    last = asked(body.next_part())
    source.ended.callback(None)
    assert third[0].name is None
    assert last == [None]


@pytest.mark.parametrize("how", ["stop", "raise"])
def test_a_consumer_that_wants_no_more(how: str) -> None:
    """The rest of its part is skipped, the next one comes."""

    def enough(basin: Basin, data: bytes) -> None:
        if how == "raise":
            raise KeyError("full")
        basin.producer.stopProducing()

    source, body = begun()
    asked(body.next_part())
    source.consumer.write(BODY)
    second = asked(body.next_part())
    basin = Basin(enough)
    (result,) = asked(second[0].pour_into(basin))
    assert result is None if how == "stop" else isinstance(result, KeyError)
    assert len(basin.chunks) == 1
    assert asked(body.next_part())[0].name is None


def test_a_body_that_breaks_off() -> None:
    """Everything that came is given first, even to one that pauses; then the part ends in the error, as all that follows."""
    source, body = begun()
    part = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\n")
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())
    poured = asked(part[0].pour_into(basin))
    source.consumer.write(b"abc")
    source.consumer.write(b"def")
    source.ended.errback(Interrupted("gone"))
    assert (basin.data, poured) == (b"abc", [])
    basin.producer.resumeProducing()
    assert basin.data == b"abcdef"
    assert isinstance(poured[0], Interrupted)
    assert isinstance(asked(body.next_part())[0], Interrupted)


def test_small_fields() -> None:
    for limit, wanted in ((5, b"value"), (4, TooLarge)):
        source, body = begun()
        part = asked(body.next_part())
        source.consumer.write(BODY)
        (got,) = asked(part[0].read(limit))
        assert got == wanted if isinstance(wanted, bytes) else isinstance(got, wanted)
        assert asked(body.next_part())[0].name == "file"


FIELD = b"--b0und\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        FIELD + b"a: b\r\n" * (MOST_PART_HEADERS + 1),
        FIELD + b"a: " + b"x" * (PART_HEADERS_LIMIT + 1),
        FIELD + (b"a: " + b"x" * (PART_HEADERS_LIMIT // 3) + b"\r\n") * 3,
        FIELD + b"a b\r\n\r\n",
        b"--b0und\r\na: b\n\nbare\r\n\r\n",
        FIELD + b'Content-Disposition: form-data; name="\xe4"\r\n\r\n',
        b"x" * PREAMBLE_LIMIT,
    ],
)
def test_malformed_or_too_much(sent: bytes) -> None:
    """It is refused as soon as that is seen, and no more is read."""
    source, body = begun()
    part = asked(body.next_part())
    source.consumer.write(sent)
    assert isinstance(part[0], Invalid)
    assert source.stopped


def test_a_body_without_parts() -> None:
    source, body = begun()
    came = asked(collect(body))
    source.consumer.write(b"--b0und--")
    source.ended.callback(None)
    assert came == [[]]


def test_too_many_parts() -> None:
    """Those that are allowed are given, then it is refused."""
    source, body = begun(most_parts=2)
    first = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\n1\r\n--b0und\r\n\r\n2\r\n--b0und\r\n\r\n3")
    assert asked(first[0].read(9)) == [b"1"]
    second = asked(body.next_part())
    assert asked(second[0].read(9)) == [b"2"]
    assert isinstance(asked(body.next_part())[0], Invalid)


def test_without_a_closing_boundary() -> None:
    """The body is whole, and yet not: what was given is not all of the part."""
    source, body = begun()
    part = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\nabc")
    basin = Basin()
    poured = asked(part[0].pour_into(basin))
    source.ended.callback(None)
    assert basin.data == b"abc"
    assert isinstance(poured[0], Invalid)


@pytest.mark.parametrize(
    ("content_type", "error"),
    [
        ("multipart/mixed; boundary=a", Unsupported),
        ("text/plain", Unsupported),
        ("multipart/form-data", Invalid),
        ("multipart/form-data; boundary=" + "x" * 71, Invalid),
        ("multipart/form-data; boundary=", Invalid),
        ('multipart/form-data; boundary="a\tb"', Invalid),
        ('multipart/form-data; boundary="b "', Invalid),
        ("multipart/form-data; boundary=\xe4", Invalid),
    ],
)
def test_content_types(content_type: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        begun(content_type)


def test_leaving_early_gives_the_body_up() -> None:
    source, body = begun()

    async def leave() -> None:
        async with body:
            await body.next_part()

    came = asked(leave())
    source.consumer.write(BODY)
    assert came == [None]
    assert source.stopped


def test_over_a_connection() -> None:
    """The pause of a part's consumer reaches the socket."""
    basin = Basin(lambda basin, data: basin.producer.pauseProducing())

    async def take(request: Any) -> Response:
        async with MultipartBody(request, TYPE) as parts:
            async for part in parts:
                await part.pour_into(basin)
        return Response(200, basin.data)

    wire = Wire(take)
    rest = b"d" * 16 + b"\r\n--b0und--"
    began = b"--b0und\r\n\r\nabc"
    wire.send(head("POST", "/", f"Content-Length: {len(began + rest)}", "Expect: 100-continue"))
    assert statuses(wire.said) == [100]
    wire.send(began)
    assert wire.paused
    assert basin.data == b"abc"
    basin.on_write = None
    basin.producer.resumeProducing()
    assert not wire.paused
    wire.send(rest)
    assert statuses(wire.said) == [100, 200]
    assert wire.said.endswith(b"\r\n\r\nabc" + b"d" * 16)
    assert not wire.closing


def test_what_drips_between_the_files_is_not_waited_for_long() -> None:
    """What comes of a file may take as long as it takes; and so may whoever takes it."""
    now = 0.0
    source, body = begun(clock=lambda: now)
    first = asked(body.next_part())
    now += SECONDS - 1
    source.consumer.write(b"--b0und\r\n\r\n")
    basin = Basin()
    poured = asked(first[0].pour_into(basin))
    now += 10 * SECONDS
    source.consumer.write(b"abc\r\n--b0und\r\n")
    assert poured == [None]
    now += 10 * SECONDS
    source.consumer.write(b"\r\n")  # on its way when the socket was paused
    second = asked(body.next_part())
    read = asked(second[0].read(10))
    now += SECONDS
    source.consumer.write(b"d")
    assert read == []
    now += 1
    source.consumer.write(b"e")
    assert isinstance(read[0], Interrupted)
    assert read[0].idle
    assert source.stopped


def test_what_drips_into_a_small_body_is_not_waited_for_long() -> None:
    """A part that is read before the main application is asked has the time of what lies between the files."""
    now = 0.0
    source, body = begun(clock=lambda: now)

    async def read(part: Any) -> None:
        async with SmallBodies().of(part, 100):
            raise AssertionError("it never ends")

    first = asked(body.next_part())
    source.consumer.write(b"--b0und\r\n\r\n")
    small = asked(read(first[0]))
    for _ in range(2):
        assert small == []
        now += SECONDS / 2 + 1
        source.consumer.write(b"d")
    assert isinstance(small[0], Interrupted)
    assert source.stopped
