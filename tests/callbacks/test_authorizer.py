"""The auth callback against real little HTTP servers on loopback."""

from __future__ import annotations

import contextlib
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from resumable.callbacks.authorizer import AllowAll, AuthorizationRequest, CallbackAuthorizer, Grant, Refused
from resumable.metrics import Metrics
from resumable.model import ObjectOptions, Unavailable
from tests.scraping import Scrape

ASK = AuthorizationRequest(action="create", method="PUT", uri="/upload/a", headers=Headers(), peer="192.0.2.7")
JSON = {"content-type": "application/json"}


class Application(Resource):
    """Remembers what it was asked and answers what it is told to."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.requests: list[tuple[bytes, bytes, Headers]] = []
        self.connections: set[int] = set()
        self.answer(200)

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        def respond(request: Request) -> bytes:
            request.setResponseCode(status)
            for name, value in (headers or {}).items():
                request.setHeader(name, value)
            return body

        self.respond: Callable[[Request], Any] = respond

    def render(self, request: Request) -> Any:
        self.requests.append((request.method, request.uri, request.requestHeaders.copy()))
        self.connections.add(id(request.channel))
        return self.respond(request)

    def header(self, name: str) -> list[str] | None:
        return self.requests[-1][2].getRawHeaders(name)


class Bench:
    """An application, an authorizer that asks it, and the warnings it wrote."""

    def __init__(self) -> None:
        self.app = Application()
        self.warnings: list[str] = []
        self.serve(Site(self.app))
        self.authorizer = self.make()

    def serve(self, factory: Factory) -> None:
        self.port: IListeningPort = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.base = f"http://127.0.0.1:{self.port.getHost().port}/allow"

    def make(
        self, *, forward: tuple[str, ...] = ("authorization", "cookie"), timeout: float = 5, cache: float = 0
    ) -> CallbackAuthorizer:
        self.metrics = Metrics()
        self.authorizer = CallbackAuthorizer(
            url=f"{self.base}?token=hunter2",
            forward=forward,
            timeout=timeout,
            cache=cache,
            reactor=reactor,
            metrics=self.metrics,
        )
        return self.authorizer

    async def listen(self, protocol: Callable[[], Protocol]) -> None:
        """Put raw `protocol`s in the application's place."""
        await self.port.stopListening()
        self.serve(Factory.forProtocol(protocol))
        self.make(timeout=0.3)

    async def unavailable(self, reason: str) -> None:
        """Ask, and find nobody let in, one warning, and no credentials in it."""
        headers = Headers({"Authorization": ["hunter2"], "Cookie": ["hunter2"]})
        with pytest.raises(Unavailable) as caught:
            await self.authorizer.authorize(AuthorizationRequest("create", "PUT", "/upload/a", headers, "192.0.2.7"))
        assert reason in str(caught.value)
        assert len(self.warnings) == 1
        assert reason in self.warnings[0]
        assert f"{self.base} " in self.warnings[0]
        assert "hunter2" not in self.warnings[0] + str(caught.value)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()

    def observe(event: Any) -> None:
        if event.get("log_level", LogLevel.info) >= LogLevel.warn:
            made.warnings.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield made
    globalLogPublisher.removeObserver(observe)

    async def close() -> None:
        await made.authorizer.close()
        await maybeDeferred(made.port.stopListening)

    pytest_twisted.blockon(Deferred.fromCoroutine(close()))


@pytest_twisted.ensureDeferred
async def test_the_open_door() -> None:
    assert await AllowAll().authorize(ASK) == Grant()
    await AllowAll().close()


@pytest_twisted.ensureDeferred
async def test_what_the_application_is_told(bench: Bench) -> None:
    client = Headers({"Authorization": ["Bearer x"], "Cookie": ["a=1", "b=2"], "Accept": ["text/html"]})
    ask = AuthorizationRequest(
        "append", "PATCH", "/files/1?a=%20b", client, "2001:db8::1", "id1", "a b/100%/é.mp4", 42, "text/plain; a=b"
    )
    assert await bench.authorizer.authorize(ask) == Grant()
    assert bench.app.requests[0][:2] == (b"GET", b"/allow?token=hunter2")
    expected = {
        "Authorization": ["Bearer x"],
        "Cookie": ["a=1", "b=2"],
        "Accept": None,
        "X-Original-Method": ["PATCH"],
        "X-Original-URI": ["/files/1?a=%20b"],
        "X-Forwarded-For": ["2001:db8::1"],
        "X-Upload-Id": ["id1"],
        "X-Upload-Name": ["a%20b/100%25/%C3%A9.mp4"],
        "X-Upload-Length": ["42"],
        "X-Upload-Content-Type": ["text/plain; a=b"],
        "X-Upload-Action": ["append"],
    }
    assert {name: bench.app.header(name) for name in expected} == expected


@pytest_twisted.ensureDeferred
async def test_a_client_cannot_speak_for_us(bench: Bench) -> None:
    names = ["X-Upload-Id", "X-Upload-Name", "X-Upload-Length", "X-Upload-Action", "X-Forwarded-For", "X-Original-URI"]
    authorizer = bench.make(forward=tuple(name.lower() for name in names))
    await authorizer.authorize(
        AuthorizationRequest("status", "HEAD", "/x", Headers({name: ["forged"] for name in names}), "")
    )
    assert {name: bench.app.header(name) for name in names} == {
        **dict.fromkeys(names),
        "X-Upload-Action": ["status"],
        "X-Original-URI": ["/x"],
    }


@pytest_twisted.ensureDeferred
async def test_nothing_gets_into_a_header_that_does_not_belong_there(bench: Bench) -> None:
    nasty = "a\r\nX-Evil: 1\ud800"
    ask = AuthorizationRequest(
        "create", "PUT", f"/{nasty}", Headers(), "", upload_id=nasty, name=nasty, content_type=nasty
    )
    await bench.authorizer.authorize(ask)
    assert bench.app.header("X-Evil") is None
    assert bench.app.header("X-Upload-Name") == ["a%0D%0AX-Evil:%201%ED%A0%80"]
    assert bench.app.header("X-Upload-Content-Type") == ["a%0D%0AX-Evil: 1%ED%A0%80"]


@pytest_twisted.ensureDeferred
async def test_a_full_grant(bench: Bench) -> None:
    said = {
        "owner": "alice",
        "bucket": "b",
        "key": "videos/42.mp4",
        "max_size": 1073741824,
        "content_type": "video/mp4",
        "metadata": {"k": "v"},
        "object": {"acl": "private", "storage_class": "IA", "content_disposition": "inline", "tags": {"t": ""}, "x": 1},
        "and more": [],
    }
    bench.app.answer(201, json.dumps(said).encode(), {"content-type": "application/problem+json; charset=utf-8"})
    options = ObjectOptions(acl="private", storage_class="IA", content_disposition="inline", tags={"t": ""})
    assert await bench.authorizer.authorize(ASK) == Grant(
        owner="alice",
        bucket="b",
        key="videos/42.mp4",
        max_size=1073741824,
        content_type="video/mp4",
        metadata={"k": "v"},
        object=options,
    )


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"", JSON),
        (204, b"", {}),
        (200, b" \r\n", JSON),
        (200, b"{}", JSON),
        (200, b'{"owner": null, "object": null, "key": null}', JSON),
        (200, b'{"owner": 5}', {"content-type": "text/html"}),
        (200, b"x" * 300_000, {"content-type": "text/html"}),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_plain_yes(bench: Bench, status: int, body: bytes, headers: dict[str, str]) -> None:
    bench.app.answer(status, body, headers)
    assert await bench.authorizer.authorize(ASK) == Grant()
    assert bench.warnings == []


@pytest_twisted.ensureDeferred
async def test_a_packed_answer_is_unpacked(bench: Bench) -> None:
    bench.app.answer(200, gzip.compress(b'{"owner": "alice"}'), {**JSON, "content-encoding": "gzip"})
    assert (await bench.authorizer.authorize(ASK)).owner == "alice"


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"owner": "hunter2', "Unterminated string starting at: line 1 column 11 (char 10)"),
        (b'{"owner": "\xff"}', "can't decode byte 0xff in position 11"),
        (b'["hunter2"]', "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"[" * 50_000, "("),
        (b'{"owner": 5}', "owner must be a text without control characters"),
        (b'{"key": ""}', "key must be a text, not empty and without control characters"),
        (b'{"key": "\\ud800"}', "key must be a text, not empty and without control characters"),
        (b'{"content_type": "a\\r\\nhunter2: b"}', "content_type must be a text, not empty and without control"),
        (b'{"max_size": "5"}', "max_size must be a whole number, 0 or more"),
        (b'{"max_size": true}', "max_size must be a whole number, 0 or more"),
        (b'{"max_size": -1}', "max_size must be a whole number, 0 or more"),
        (b'{"metadata": {"a": 1}}', "metadata must be an object of texts without control characters"),
        (b'{"object": "x"}', "object must be an object"),
        (b'{"object": {"acl": []}}', "object.acl must be a text, not empty and without control characters"),
        (b'{"object": {"tags": ["a"]}}', "object.tags must be an object of texts without control characters"),
        (b'{"x": "' + b"x" * 65536 + b'"}', "longer than 65536 bytes"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_an_answer_that_cannot_be_used(bench: Bench, body: bytes, problem: str) -> None:
    bench.app.answer(200, body, JSON)
    await bench.unavailable("gave an answer that cannot be used")
    assert problem in bench.warnings[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 451])
@pytest_twisted.ensureDeferred
async def test_a_no_is_passed_on(bench: Bench, status: int) -> None:
    kept = {"WWW-Authenticate": "Basic", "Content-Type": "text/plain", "Retry-After": "7"}
    bench.app.answer(status, b"go away", {**kept, "Set-Cookie": "a=b", "X-Other": "c"})
    with pytest.raises(Refused) as caught:
        await bench.authorizer.authorize(ASK)
    assert (caught.value.status, caught.value.body) == (status, b"go away")
    assert caught.value.headers == Headers({name: [value] for name, value in kept.items()})
    assert bench.warnings == []


@pytest_twisted.ensureDeferred
async def test_a_long_no_is_cut(bench: Bench) -> None:
    bench.app.answer(403, b"x" * 300_000)
    with pytest.raises(Refused) as caught:
        await bench.authorizer.authorize(ASK)
    assert caught.value.body == b"x" * 65536


@pytest.mark.parametrize("status", [301, 302, 304, 408, 500, 503])
@pytest_twisted.ensureDeferred
async def test_neither_yes_nor_no(bench: Bench, status: int) -> None:
    bench.app.answer(status, b"", {"location": "/elsewhere"})
    await bench.unavailable(f"answered {status}")
    assert len(bench.app.requests) == 1


@pytest_twisted.ensureDeferred
async def test_each_call_is_measured(bench: Bench) -> None:
    """By its outcome; a word that is remembered is no call, and who went away before the answer is not measured."""
    bench.make(cache=30)
    for status, times in ((200, 2), (403, 1), (500, 1)):
        bench.app.answer(status)
        for _ in range(times):
            with contextlib.suppress(Refused, Unavailable):
                await bench.authorizer.authorize(evolve(ASK, name=str(status)))
    bench.app.respond = lambda request: NOT_DONE_YET
    call = Deferred.fromCoroutine(bench.authorizer.authorize(evolve(ASK, name="gone")))
    call.addErrback(lambda failure: failure.trap(CancelledError))
    while len(bench.app.requests) < 4:
        await deferLater(reactor, 0.01)
    call.cancel()
    scrape = Scrape.of(bench.metrics)
    counts = {x["outcome"]: n for _, x, n in scrape.samples("resumable_auth_duration_seconds_count")}
    assert counts == {"granted": 1, "refused": 1, "unavailable": 1}


@pytest_twisted.ensureDeferred
async def test_cookies_of_one_caller_are_not_the_next_ones(bench: Bench) -> None:
    bench.app.answer(200, b"", {"set-cookie": "session=alice"})
    await bench.authorizer.authorize(ASK)
    await bench.authorizer.authorize(ASK)
    assert bench.app.header("Cookie") is None
    assert len(bench.app.connections) == 1, "the connection is kept all the same"


@pytest_twisted.ensureDeferred
async def test_nobody_there(bench: Bench) -> None:
    await bench.port.stopListening()
    await bench.unavailable("cannot be reached")
    assert "ConnectionRefusedError" in bench.warnings[0]


@pytest_twisted.ensureDeferred
async def test_no_answer_in_time(bench: Bench) -> None:
    bench.make(timeout=0.1)
    bench.app.respond = lambda request: NOT_DONE_YET
    await bench.unavailable("did not answer within 0.1 s")


@pytest_twisted.ensureDeferred
async def test_the_body_counts_too(bench: Bench) -> None:
    bench.make(timeout=0.2)
    gone: list[Any] = []

    def trickle(request: Request) -> int:
        request.notifyFinish().addErrback(gone.append)
        request.write(b"x")
        return NOT_DONE_YET

    bench.app.respond = trickle
    await bench.unavailable("did not answer within 0.2 s")
    await deferLater(reactor, 0.05)
    assert len(gone) == 1, "the connection is given up"


@pytest_twisted.ensureDeferred
async def test_cancelling_is_not_the_applications_fault(bench: Bench) -> None:
    bench.app.respond = lambda request: NOT_DONE_YET
    call = Deferred.fromCoroutine(bench.authorizer.authorize(ASK))
    while not bench.app.requests:
        await deferLater(reactor, 0.01)
    call.cancel()
    with pytest.raises(CancelledError):
        await call
    assert bench.warnings == []


class Raw(Protocol):
    """Says what the class is told to say for each read, and hangs up where there is nothing to say any more."""

    answers: tuple[bytes, ...] = ()
    reads = 0
    made = 0

    def connectionMade(self) -> None:
        type(self).made += 1
        self.left = list(self.answers)

    def dataReceived(self, data: bytes) -> None:
        type(self).reads += 1
        if self.left:
            self.transport.write(self.left.pop(0))
        else:
            self.transport.abortConnection()


YES = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest_twisted.ensureDeferred
async def test_a_kept_connection_that_has_gone_is_replaced(bench: Bench) -> None:
    server = type("Server", (Raw,), {"answers": (YES,)})
    await bench.listen(server)
    await bench.authorizer.authorize(ASK)
    await bench.authorizer.authorize(ASK)
    assert (server.made, server.reads) == (2, 3)
    assert bench.warnings == []


@pytest_twisted.ensureDeferred
async def test_a_fresh_connection_that_breaks_is_the_applications_fault(bench: Bench) -> None:
    server = type("Server", (Raw,), {})
    await bench.listen(server)
    await bench.unavailable("cannot be reached")
    assert server.made == 1


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"hunter2 what?\r\n\r\n"])
@pytest_twisted.ensureDeferred
async def test_half_an_answer(bench: Bench, answer: bytes) -> None:
    class Server(Raw):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(answer)
            self.transport.loseConnection()

    await bench.listen(Server)
    await bench.unavailable("cannot be reached")


@pytest_twisted.ensureDeferred
async def test_an_answer_that_ends_with_its_connection(bench: Bench) -> None:
    class Server(Raw):
        def dataReceived(self, data: bytes) -> None:
            self.transport.write(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"owner": "alice"}')
            self.transport.loseConnection()

    await bench.listen(Server)
    assert (await bench.authorizer.authorize(ASK)).owner == "alice"


@pytest_twisted.ensureDeferred
async def test_a_yes_is_remembered_for_the_same_question_alone(bench: Bench) -> None:
    """Whatever differs of what the application is shown, it is asked; whatever it is not shown makes no difference."""
    bench.make(cache=30)
    bench.app.answer(200, b'{"owner": "alice"}', JSON)
    client = Headers({"Authorization": ["alice"], "Cookie": ["a=1"], "Accept": ["text/html"]})
    ask = AuthorizationRequest("append", "PUT", "/upload/a?x", client, "192.0.2.7", "id1", "a", 42, "text/plain")
    assert (await bench.authorizer.authorize(ask)).owner == "alice"
    unseen = Headers({"Authorization": ["alice"], "Cookie": ["a=1"], "Accept": ["image/png"], "Content-Range": ["x"]})
    assert (await bench.authorizer.authorize(evolve(ask, headers=unseen))).owner == "alice"
    assert len(bench.app.requests) == 1
    bench.app.answer(401)
    for changed in (
        {"action": "status"},
        {"method": "POST"},
        {"uri": "/upload/a?y"},
        {"headers": Headers({"Authorization": ["bob"], "Cookie": ["a=1"]})},
        {"headers": Headers({"Authorization": ["alice"], "Cookie": ["a=2"]})},
        {"headers": Headers({"Authorization": ["alice"]})},
        {"headers": Headers()},
        {"peer": "192.0.2.8"},
        {"peer": ""},
        {"upload_id": "id2"},
        {"upload_id": None},
        {"name": "b"},
        {"length": 43},
        {"length": None},
        {"content_type": None},
    ):
        with pytest.raises(Refused):
            await bench.authorizer.authorize(evolve(ask, **changed))
    assert (await bench.authorizer.authorize(ask)).owner == "alice"


@pytest_twisted.ensureDeferred
async def test_a_key_is_for_one_upload(bench: Bench) -> None:
    """An application that names each object anew is asked for each, though the questions be the same; a word counts on for
    the very upload that it was given to."""
    bench.make(cache=30)

    def name(request: Request) -> bytes:
        request.setHeader("content-type", "application/json")
        return json.dumps({"key": f"videos/{len(bench.app.requests)}"}).encode()

    bench.app.respond = name
    first, second = evolve(ASK), evolve(ASK)
    both = [Deferred.fromCoroutine(bench.authorizer.authorize(ask)) for ask in (first, second)]
    assert sorted([str((await grant).key) for grant in both]) == ["videos/1", "videos/2"]
    assert (await bench.authorizer.authorize(first)).key == "videos/1"
    assert len(bench.app.requests) == 2
    assert (await bench.authorizer.authorize(evolve(ASK))).key == "videos/3"
    going_on = evolve(ASK, action="append")
    assert {(await bench.authorizer.authorize(evolve(going_on))).key for _ in range(3)} == {"videos/4"}
    bench.app.answer(200, b'{"owner": "alice"}', JSON)
    other = evolve(ASK, name="other")
    assert [(await bench.authorizer.authorize(evolve(other))).owner for _ in range(3)] == ["alice"] * 3
    assert len(bench.app.requests) == 5


@pytest_twisted.ensureDeferred
async def test_without_a_cache_every_question_is_asked(bench: Bench) -> None:
    await bench.authorizer.authorize(ASK)
    await bench.authorizer.authorize(ASK)
    assert len(bench.app.requests) == 2


def test_a_question_does_not_show_credentials() -> None:
    assert "hunter2" not in repr(
        AuthorizationRequest("create", "PUT", "/", Headers({"Authorization": ["hunter2"]}), "")
    )
