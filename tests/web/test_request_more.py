"""What a request tells besides its head and body, and what it can say before its answer: query, trailers, interim answers."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.web.http_headers import InvalidHeaderName

from resumable.protocols.response import Response
from resumable.web.request import StreamingRequest
from tests.web.wire import CONTINUE, Basin, Service, Wire, head, refuse, statuses


def test_query() -> None:
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/a?x=%C3%A4&x=2&y", "Content-Length: 5"))
    (request,) = service.requests
    assert request.query == {"x": ["\u00e4", "2"], "y": [""]}
    assert request.query is request.query


# Trailers

CHUNKED = head("PUT", "/", "Transfer-Encoding: chunked")
TRAILERS = b"0\r\nX-Sum:  a b \r\nx-sum: c\r\nHost: evil\r\n\r\n"


def test_trailers_come_with_the_end_of_the_pouring() -> None:
    """Cut anywhere; none are there before, and none of them is taken for a field of the head."""
    for cut in range(len(TRAILERS) + 1):
        service = Service(after=True)
        wire = Wire(service)
        wire.send(CHUNKED, b"1\r\na\r\n", TRAILERS[:cut])
        (request,) = service.requests
        if cut < len(TRAILERS):
            assert list(request.trailers.getAllRawHeaders()) == []
        wire.send(TRAILERS[cut:])
        assert request.trailers.getRawHeaders(b"x-sum") == [b"a b", b"c"]
        assert request.requestHeaders.getRawHeaders(b"host") == [b"h"]


def test_trailers_wait_for_the_pouring() -> None:
    service = Service(before=True, after=True)
    wire = Wire(service)
    wire.send(CHUNKED + b"1\r\na\r\n" + TRAILERS)
    (request,) = service.requests
    assert not request.trailers.hasHeader(b"x-sum")
    assert service.before is not None
    service.before.callback(None)
    assert request.trailers.hasHeader(b"x-sum")


def test_no_trailers_for_who_stops() -> None:
    """They belong to the whole body."""
    service = Service(Basin(lambda basin, data: basin.producer.stopProducing()), before=True, after=True)
    wire = Wire(service)
    wire.send(CHUNKED + b"1\r\na\r\n" + TRAILERS)
    assert service.before is not None
    service.before.callback(None)
    assert not service.requests[0].trailers.hasHeader(b"x-sum")


@pytest.mark.parametrize("framing", ["Content-Length: 1", "Transfer-Encoding: chunked"])
def test_no_trailers_where_there_are_none(framing: str) -> None:
    service = Service(after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", framing), b"a" if "Length" in framing else b"1\r\na\r\n0\r\n\r\n")
    assert service.outcome == "poured"
    assert list(service.requests[0].trailers.getAllRawHeaders()) == []


def test_trailers_are_those_of_their_request() -> None:
    seen: list[Any] = []

    async def answer(request: StreamingRequest) -> Response:
        await request.pour_into(Basin())
        seen.append(request.trailers.getRawHeaders(b"x-sum"))
        return Response(200)

    wire = Wire(answer)
    wire.send(CHUNKED + TRAILERS + CHUNKED + b"0\r\n\r\n" + CHUNKED + TRAILERS)
    assert seen == [[b"a b", b"c"], None, [b"a b", b"c"]]


# Interim answers

INTERIM = b"HTTP/1.1 104 Upload Resumption Supported\r\nUpload-Offset: 5\r\n\r\n"


def test_an_interim_answer_goes_out_at_once() -> None:
    """Any number, before, while and after the body is poured."""
    service = Service(before=True, after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 2"))
    (request,) = service.requests
    assert request.inform(104, {"Upload-Offset": "5"})
    assert wire.said == INTERIM
    assert service.before is not None
    service.before.callback(None)
    wire.send(b"a")
    request.inform(104, [(b"Upload-Offset", b"5")])
    wire.send(b"b")
    request.inform(104, {"Upload-Offset": "5"})
    assert wire.said == INTERIM * 3
    assert service.after is not None
    service.after.callback(None)
    assert statuses(wire.said) == [104, 104, 104, 200]
    assert not wire.closing


def test_none_follows_the_answer() -> None:
    """Neither on a connection that stays, nor on one that lingers."""
    service = Service()
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 1"), b"a")
    early: list[StreamingRequest] = []

    async def remember(request: StreamingRequest) -> Response:
        early.append(request)
        return await refuse(request)

    lingers = Wire(remember)
    lingers.send(head("PUT", "/", "Content-Length: 9"))
    for request, one in ((service.requests[0], wire), (early[0], lingers)):
        said = one.said
        request.inform(104)
        assert one.said == said


def test_none_goes_out_of_turn() -> None:
    """The answer to a former request is still to come, or the next request is being served."""
    gates: list[Deferred[None]] = []
    requests: list[StreamingRequest] = []

    async def answer(request: StreamingRequest) -> Response:
        requests.append(request)
        gates.append(Deferred())
        await gates[-1]
        return Response(200)

    wire = Wire(answer)
    wire.send(head("GET", "/1") + head("GET", "/2"))
    second = StreamingRequest(wire.channel)
    second.clientproto = b"HTTP/1.1"
    second.inform(104)
    assert wire.said == b""
    gates[0].callback(None)
    requests[0].inform(104)
    assert statuses(wire.said) == [200]
    requests[1].inform(104)
    gates[1].callback(None)
    assert statuses(wire.said) == [200, 104, 200]


def test_none_for_one_who_is_gone_or_was_refused() -> None:
    gone, refused = Service(after=True), Service(after=True)
    wire = Wire(gone)
    wire.send(head("PUT", "/", "Content-Length: 0"))
    wire.lose()
    assert not gone.requests[0].inform(104)
    assert wire.said == b""
    wire = Wire(refused)
    wire.send(CHUNKED, b"nonsense\r\n")
    refused.requests[0].inform(104)
    assert statuses(wire.said) == [400]


def test_none_for_http_1_0() -> None:
    service = Service(after=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 1", version="1.0"), b"a")
    service.requests[0].inform(104)
    assert wire.said == b""


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_what_is_no_interim_answer_is_a_mistake(version: str) -> None:
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 1", version=version))
    for status in (99, 101, 200, 500):
        with pytest.raises(ValueError, match=str(status)):
            service.requests[0].inform(status)
    with pytest.raises(InvalidHeaderName):
        service.requests[0].inform(104, {"Not fine": "x"})
    assert wire.said == b""


def test_no_line_break_gets_into_its_headers() -> None:
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 1"))
    service.requests[0].inform(104, {"X": "c\r\nY: d"})
    assert b"\r\nY:" not in wire.said
    assert wire.said.count(b"\r\n\r\n") == 1


def test_one_who_waits_is_told_to_go_on_once() -> None:
    service = Service(before=True)
    wire = Wire(service)
    wire.send(head("PUT", "/", "Content-Length: 1", "Expect: 100-continue"))
    service.requests[0].inform(100)
    assert service.before is not None
    service.before.callback(None)
    assert wire.said == CONTINUE
