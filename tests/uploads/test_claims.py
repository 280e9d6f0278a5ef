"""One object at a time is made under a key: what a client was told of stays, whoever was there before and comes late."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import pytest_twisted
from attrs import evolve
from twisted.internet import reactor
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

from resumable.boot import machine
from resumable.ledger.claims import Holder
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.model import LIVE, Ended, Exists, State, Unavailable, Upload
from resumable.stores.port import StoreUnavailable
from resumable.uploads import claims
from resumable.uploads.claims import Claims
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.result import Report
from tests.policy import policy
from tests.uploads.conftest import CHUNK, DATA, Node, nothing_left
from tests.uploads.memory_store import Bucket
from tests.uploads.test_states import Body, certain

OTHER = random.Random(6).randbytes(len(DATA))
LEASE = 0.8


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "LEASE", LEASE)
    monkeypatch.setattr(claims, "BEAT", 0.2)
    monkeypatch.setattr(claims, "LOOK", 0.02)


def wanted(size: int, *, protocol: str = "put", name: str = "name") -> CreateRequest:
    return CreateRequest(protocol, name, length=size)


async def bring(node: Node, data: bytes, *, protocol: str = "put") -> Report:
    """All of an upload in one body, as a client's PUT."""
    upload = await node.uploads.create(wanted(len(data), protocol=protocol), whole=True)
    body = Body(data, 7, drop=False, stall=False)
    return await node.uploads.receive(upload, body, Span(0, len(data), last=True), revalidate=certain, new=True)


def begin(node: Node, data: bytes, **options: Any) -> Deferred[Any]:
    """The same, of whose end nobody wants to know."""
    doing: Deferred[Any] = Deferred.fromCoroutine(bring(node, data, **options))
    doing.addErrback(lambda failure: failure.value)
    return doing


async def seconds(some: float) -> None:
    await deferLater(reactor, some)  # type: ignore[arg-type]


async def eventually(ask: Callable[[], object]) -> None:
    async def looking() -> None:
        while not ask():
            await seconds(0.005)

    await Deferred.fromCoroutine(looking()).addTimeout(10, reactor)  # type: ignore[arg-type]


class Refused:
    """The next call of its name is refused with a 503, and tried again after a pause."""

    def __init__(self, node: Node, call: str, *, pause: float) -> None:
        self.tried = 0
        made = getattr(node.store, call)

        async def refused(*arguments: Any, fence: Any, **options: Any) -> Any:
            self.tried += 1
            if self.tried == 1:
                await fence.pause(pause)
                await fence.proceed()
            return await made(*arguments, fence=fence, **options)

        setattr(node.store, call, refused)


class Late:
    """The next call of its name is never answered, and takes effect when the test says so."""

    def __init__(self, node: Node, call: str) -> None:
        self.called = False
        self._land: Callable[[], Any] | None = None
        made = getattr(node.store, call)

        async def unanswered(*arguments: Any, fence: Any, **options: Any) -> Any:
            setattr(node.store, call, made)
            arguments = tuple(list(one) if isinstance(one, list) else one for one in arguments)
            self._land = lambda: made(*arguments, **options)
            self.called = True
            fence.doubt()
            raise StoreUnavailable("Silent", "as the test wants it")

        setattr(node.store, call, unanswered)

    async def land(self) -> None:
        assert self._land is not None
        await self._land()


async def die_in(node: Node, call: str, size: int) -> Late:
    """Let a node die while it waits for the answer to a call of its upload; nobody hears of it any more."""
    late = Late(node, call)
    unanswered = getattr(node.store, call)

    async def dying(*arguments: Any, **options: Any) -> Any:
        with pytest.raises(StoreUnavailable):
            await unanswered(*arguments, **options)
        await Deferred()

    setattr(node.store, call, dying)
    begin(node, DATA[:size])
    await eventually(lambda: late.called)
    for claims_of_one in node.uploads._completer.claims._held.values():
        for claim in claims_of_one:
            claim._timer.cancel()  # type: ignore[union-attr]
    return late


CALLS = pytest.mark.parametrize(
    ("call", "size"), [("put_object", CHUNK - 3), ("complete_multipart_upload", len(DATA))], ids=["put", "complete"]
)


@CALLS
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest_twisted.ensureDeferred
async def test_who_ended_is_not_tried_again(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int, elsewhere: bool
) -> None:
    """A client gives up while the store is busy, and puts the name again: the first try's retry makes nothing."""
    first, second = nodes[0], nodes[elsewhere]
    refused = Refused(first, call, pause=0.5)
    former = begin(first, DATA[:size])
    await eventually(lambda: refused.tried)
    assert (await bring(second, OTHER[:size])).finished
    assert bucket.objects["name"][0] == OTHER[:size]
    assert isinstance(await former, (Ended, Unavailable))
    await seconds(0.6)
    assert bucket.objects["name"][0] == OTHER[:size]
    await nothing_left(bucket, nodes)


@CALLS
@pytest_twisted.ensureDeferred
async def test_nothing_is_made_after_a_delete(bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int) -> None:
    """DELETE while the object is being made, and a new PUT."""
    a, _ = nodes
    refused = Refused(a, call, pause=0.3)
    former = begin(a, DATA[:size])
    await eventually(lambda: refused.tried)
    await a.uploads.cancel(await a.uploads.find("", "name", "put"))
    assert isinstance(await former, Ended)
    assert "name" not in bucket.objects
    assert (await bring(a, OTHER[:size])).finished
    assert bucket.objects["name"][0] == OTHER[:size]
    await nothing_left(bucket, nodes)


@CALLS
@pytest.mark.parametrize("elsewhere", [False, True])
@pytest_twisted.ensureDeferred
async def test_what_comes_late_comes_before(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int, elsewhere: bool
) -> None:
    """A call that nobody heard of takes effect some time later: the next to make an object there has waited for that."""
    first, second = nodes[0], nodes[elsewhere]
    late = Late(first, call)
    assert isinstance(await begin(first, DATA[:size]), Unavailable)
    following = begin(second, OTHER[:size])
    await seconds(LEASE / 4)
    assert not following.called
    await late.land() if call == "put_object" else None
    assert (await following).finished
    if call != "put_object":
        with pytest.raises(Exception, match="NoSuchUpload"):
            await late.land()
    assert bucket.objects["name"][0] == OTHER[:size]
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_another_file_after_a_call_that_nobody_heard_of(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The same upload, of the same length: what comes late of it are not the bytes that it has now."""
    a, _ = nodes
    late = Late(a, "put_object")
    data, other = DATA[: CHUNK - 3], OTHER[: CHUNK - 3]
    upload = await a.uploads.create(wanted(len(data)), whole=True)
    body = Body(data, 7, drop=False, stall=False)
    with pytest.raises(Unavailable):
        await a.uploads.receive(upload, body, Span(0, len(data)), revalidate=certain, new=True)
    again = Body(other, 7, drop=False, stall=False)
    doing = Deferred.fromCoroutine(a.uploads.receive(upload, again, Span(0, len(data)), revalidate=certain))
    await seconds(LEASE / 4)
    assert not doing.called
    await late.land()
    assert (await doing).finished
    assert bucket.objects["name"][0] == other
    await nothing_left(bucket, nodes)


@CALLS
@pytest_twisted.ensureDeferred
async def test_a_node_that_died(bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int) -> None:
    """What it had under way may still take effect: that is waited for, and not for ever."""
    a, b = nodes
    late = await die_in(a, call, size)
    following = begin(b, OTHER[:size])
    await seconds(LEASE / 4)
    assert not following.called
    if call == "put_object":
        await late.land()
    assert (await following).finished
    assert bucket.objects["name"][0] == OTHER[:size]


@CALLS
@pytest_twisted.ensureDeferred
async def test_a_service_that_is_killed_again_and_again(
    bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes up on the same machine need not watch the claim for long: it says how old it is."""
    if machine() is None:
        pytest.skip("this system does not say when it was started")
    a, b = nodes
    await die_in(a, call, size)
    await seconds(LEASE)
    monkeypatch.setattr(claims, "LOOK", 1000.0)  # a second look would come too late
    following = begin(b, OTHER[:size])
    following.addTimeout(10, reactor)  # type: ignore[arg-type]
    assert (await following).finished
    assert bucket.objects["name"][0] == OTHER[:size]


@CALLS
@pytest_twisted.ensureDeferred
async def test_who_lives_is_waited_for(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int
) -> None:
    """Two uploads of one key, neither of which ends the other: who is told last has its object there."""
    a, b = nodes
    slow: Deferred[None] = Deferred()
    made = getattr(a.store, call)

    async def slowly(*arguments: Any, **options: Any) -> Any:
        await slow
        return await made(*arguments, **options)

    setattr(a.store, call, slowly)
    first = begin(a, DATA[:size], protocol="session")
    await seconds(0.1)
    second = begin(b, OTHER[:size], protocol="session")
    await seconds(3 * LEASE)
    assert not second.called
    slow.callback(None)
    assert (await first).finished
    assert not second.called or bucket.objects["name"][0] == OTHER[:size]
    assert (await second).finished
    assert bucket.objects["name"][0] == OTHER[:size]


@CALLS
@pytest_twisted.ensureDeferred
async def test_cancelled_while_it_is_made(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], call: str, size: int
) -> None:
    """The object of an upload that was cancelled in that moment is removed by who has made it, and nothing else is."""
    a, b = nodes
    slow: Deferred[None] = Deferred()
    made = getattr(a.store, call)

    async def slowly(*arguments: Any, **options: Any) -> Any:
        done = await made(*arguments, **options)
        await slow
        return done

    setattr(a.store, call, slowly)
    former = begin(a, DATA[:size])
    await eventually(lambda: "name" in bucket.objects)
    following = begin(b, OTHER[:size])
    await seconds(0.2)
    assert bucket.objects["name"][0] == DATA[:size]
    slow.callback(None)
    assert isinstance(await former, Ended)
    assert (await following).finished
    assert bucket.objects["name"][0] == OTHER[:size]
    await nothing_left(bucket, nodes)


@pytest_twisted.ensureDeferred
async def test_what_a_dead_node_left_under_the_key(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The object of an upload that was cancelled is removed by whoever tidies up."""
    a, b = nodes
    late = Late(a, "put_object")
    assert isinstance(await begin(a, DATA[:5]), Unavailable)
    await late.land()
    former = await a.uploads.find("", "name", "put")
    await b.uploads.cancel(former)
    assert bucket.objects["name"][0] == DATA[:5]
    cancelled = await ledger.get(former.id)
    assert cancelled is not None
    await b.uploads.tidy_up(cancelled)
    assert "name" not in bucket.objects
    freed = await ledger.get(former.id)
    assert freed is not None
    assert freed.claim is None


@pytest_twisted.ensureDeferred
async def test_what_a_live_upload_has_made_is_its_own(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A took place though nobody heard of it; B takes the key over: A was finished before B replaced it."""
    a, b = nodes
    late = Late(a, "complete_multipart_upload")
    assert isinstance(await begin(a, DATA, protocol="session"), Unavailable)
    await late.land()
    assert (await bring(b, OTHER, protocol="session")).finished
    states = {upload.state for upload in await _all(ledger)}
    assert states == {State.FINISHED}
    assert bucket.objects["name"][0] == OTHER


async def _all(ledger: Ledger) -> list[Upload]:
    from sqlalchemy import select

    from resumable.ledger.rows import as_upload
    from resumable.ledger.schema import uploads

    rows = await ledger._database.read(lambda connection: connection.execute(select(uploads)).mappings().all())
    return [as_upload(row) for row in rows]


@pytest_twisted.ensureDeferred
async def test_a_key_that_may_not_be_replaced(ledger: Ledger, bucket: Bucket) -> None:
    """The ghost of a cancelled upload does not take the key from the next."""
    a = Node(ledger, bucket)
    a.uploads.policy = a.uploads.writing._policy = policy("bucket", chunk_size=CHUNK, overwrite=False)
    late = Late(a, "put_object")
    assert isinstance(await begin(a, DATA[:5]), Unavailable)
    await late.land()
    assert (await bring(a, OTHER[:5])).finished
    assert bucket.objects["name"][0] == OTHER[:5]
    assert isinstance(await begin(a, DATA[:5]), Exists)
    assert bucket.objects["name"][0] == OTHER[:5]


@pytest_twisted.ensureDeferred
async def test_a_claim_that_was_lost(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """Who was cut off for too long gives its call up, and finishes nothing."""
    a, _ = nodes
    stuck: Deferred[None] = Deferred()

    async def never(*arguments: Any, **options: Any) -> Any:
        await stuck

    a.store.put_object = never  # type: ignore[method-assign]
    doing = begin(a, DATA[:5])
    await eventually(lambda: a.uploads._completer.claims._held)
    await seconds(0.3)
    (upload,) = await _all(ledger)
    assert upload.claim is not None
    stolen = await ledger.claim(upload, "thief", states=LIVE, stale=Holder(upload.id, upload.claim))
    assert stolen == evolve(upload, claim="thief")
    assert isinstance(await doing, Unavailable)
    (upload,) = await _all(ledger)
    assert (upload.state, upload.claim) == (State.OPEN, "thief")


@pytest_twisted.ensureDeferred
async def test_a_ledger_that_is_away(ledger: Ledger, database: Database, nodes: tuple[Node, Node]) -> None:
    """Nobody can say whether the claim is still ours: what is under way is given up before it can be another's."""

    class Away(Ledger):
        async def renew_claim(self, upload: Upload, former: str, claim: str) -> State | None:
            raise Unavailable("as the test wants it")

    a, _ = nodes
    upload = await a.uploads.create(wanted(5))
    held = Claims(Away(database), reactor, lambda upload, claim: seconds(0))  # type: ignore[arg-type]
    claim = await held.take(upload)
    begun = reactor.seconds()  # type: ignore[attr-defined]

    async def never() -> None:
        await Deferred()

    with pytest.raises(Unavailable, match="lost"):
        await claim.run(never())
    assert reactor.seconds() - begun < LEASE  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_two_who_want_a_claim(ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """Of all who take a claim over that was left to lie one has it."""
    a, b = nodes
    uploads = [await node.uploads.create(wanted(5, protocol="session")) for node in (a, b, a, b)]
    for _ in range(2):
        assert await ledger.claim(uploads[0], "one", states=LIVE) == evolve(uploads[0], claim="one")
    holder = await ledger.claim(uploads[1], "two", states=LIVE)
    assert holder == Holder(uploads[0].id, "one")
    tries = [ensureDeferred(ledger.claim(one, f"try {one.id}", states=LIVE, stale=holder)) for one in uploads[1:]]
    outcomes = [await one for one in tries]
    (has_it,) = [outcome for outcome in outcomes if isinstance(outcome, Upload)]
    assert await ledger.renew_claim(has_it, f"try {has_it.id}", "next") is State.OPEN
    assert await ledger.renew_claim(uploads[0], "one", "next") is None
    await ledger.unclaim(has_it, "next")
    with pytest.raises(Ended):
        await ledger.claim(evolve(uploads[0]), "late", states=(State.FINISHING,))


@pytest_twisted.ensureDeferred
async def test_what_is_entered_with_the_upload(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A small upload's claim comes with its row; a client that breaks off leaves nothing to be waited for."""
    a, b = nodes
    upload = await a.uploads.create(wanted(CHUNK), whole=True)
    assert upload.claim is not None
    body = Body(DATA[:3], 7, drop=True, stall=False)
    with pytest.raises(Exception, match="as the test wants"):
        await a.uploads.receive(upload, body, Span(0, CHUNK), revalidate=certain, new=True)
    current = await ledger.get(upload.id)
    assert current is not None
    assert current.claim is None
    nothing = await a.uploads.create(wanted(CHUNK), whole=True)
    body = Body(b"", 7, drop=True, stall=False)
    with pytest.raises(Exception, match="as the test wants"):
        await a.uploads.receive(nothing, body, Span(0, CHUNK), revalidate=certain, new=True)
    begun = reactor.seconds()  # type: ignore[attr-defined]
    assert (await bring(b, OTHER[:CHUNK])).finished
    assert reactor.seconds() - begun < LEASE / 2  # type: ignore[attr-defined]


@pytest_twisted.ensureDeferred
async def test_a_slow_small_body(ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """The claim that came with the row is long another's when the body is in: then it waits for its turn again."""
    a, b = nodes
    upload = await a.uploads.create(wanted(CHUNK, protocol="session"), whole=True)
    body = Body(DATA[:CHUNK], 7, drop=False, stall=True)
    doing = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, CHUNK), revalidate=certain, new=True))
    held = a.uploads._completer.claims._held[upload.id][0]
    held._seen -= LEASE
    assert (await bring(b, OTHER[:CHUNK], protocol="session")).finished
    body.go_on()
    assert (await doing).finished
    assert bucket.objects["name"][0] in (DATA[:CHUNK], OTHER[:CHUNK])


@pytest_twisted.ensureDeferred
async def test_the_lease_of_a_doubt_begins_at_its_end(ledger: Ledger, nodes: tuple[Node, Node]) -> None:
    """A call begins late under its claim, and nobody hears of it: who comes next waits for a whole lease from there."""
    held = nodes[0].uploads._completer.claims
    upload = await nodes[0].uploads.create(wanted(5))
    claim = await held.take(upload)
    word = claim.word
    await seconds(LEASE / 3)
    claim.doubt()
    await held.drop(claim)
    left = await ledger.get(upload.id)
    assert left is not None
    assert left.claim not in (None, word)
    ended: list[float] = []
    following = await nodes[1].uploads.create(wanted(5, protocol="session"))
    dropped = reactor.seconds()  # type: ignore[attr-defined]
    taking = Deferred.fromCoroutine(nodes[1].uploads._completer.claims.take(following))
    taking.addCallback(lambda taken: ended.append(reactor.seconds()) or taken)  # type: ignore[attr-defined, func-returns-value]
    await nodes[1].uploads._completer.claims.drop(await taking)
    assert ended[0] - dropped > LEASE * 0.9
