"""The state machine of `tests.uploads.test_states` over the client of Cloud Storage, whose requests go over real HTTP.

There every call of the port fails as a whole. Here each request does: a call that takes several (an object is completed
under a key of its own, looked at, moved and removed; a chunk is composed of fragments) ends after any of them, and so does
the process. When all is over the bucket has objects, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from attrs import asdict, evolve, frozen
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread

from resumable.ledger.maintenance import Maintenance
from resumable.ledger.queue import EventQueue
from resumable.model import Ended, Interrupted, State, Superseded, Unavailable, UploadError
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.composing import word_of
from resumable.stores.gcs.staging import parse_id
from resumable.stores.port import StoreLimits
from resumable.stores.transport.exchange import Answer, Broken
from resumable.stores.transport.pool import Transport
from resumable.upkeep.janitor import Janitor
from resumable.uploads import grid
from resumable.uploads.policy import Policy
from tests.policy import policy
from tests.stateful import every_time, short_claims
from tests.stores.gcs.server import Fault, GcsServer
from tests.uploads.test_states import CHUNK, Died, Uploads, run, survived, wait

T = TypeVar("T")
#: What may go wrong: whatever is asked of the store in the life of an upload.
OPERATIONS = (
    *("PutObject", "GetObject", "HeadObject", "DeleteObject", "ListObjects"),
    *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "ListMultipartUploads"),
    *("GetObjectResource", "ListObjectResources", "RewriteObject", "ComposeObject"),
)
#: Ways to fail: status and code of the answer. Without a status there is none.
WAYS = {"503": (503, "ServiceUnavailable"), "page": (502, ""), "break": (0, ""), "death": (0, "")}
PREFIX = ".resumable/"
NAMES = st.one_of(st.just("*"), st.just("*"), st.sampled_from(OPERATIONS))
#: What dead processes wait for, for ever.
HUNG: list[Deferred[None]] = []


@frozen
class Trouble:
    """See `OnGoogle.trouble`."""

    name: str
    after: int
    way: str
    done: bool


TROUBLES = st.lists(
    st.builds(Trouble, NAMES, st.integers(0, 9), st.sampled_from(sorted(WAYS)), st.booleans()), max_size=2
)


class Mortal(Transport):
    """The HTTP of one process: when that is dead, nothing is sent any more, and no answer is heard.

    :ivar under_way: requests whose outcome is not known yet, even if nobody is left to hear of it.
    """

    def __init__(self) -> None:
        super().__init__(reactor)
        self.dead = False
        self.under_way: set[Deferred[None]] = set()
        self._waiting: list[Deferred[None]] = []

    def request(self, *given: Any, **how: Any) -> Deferred[Answer | Broken]:
        return Deferred.fromCoroutine(self._request(*given, **how))

    async def _request(self, *given: Any, **how: Any) -> Answer | Broken:
        if self.dead:
            await _for_ever()
        ended: Deferred[None] = Deferred()
        self.under_way.add(ended)
        try:
            return await super().request(*given, **how)
        finally:
            self.under_way.remove(ended)
            ended.callback(None)
            if self.dead:
                await _for_ever()

    def die(self) -> None:
        """Be dead. Any thread may ask for it."""
        self.dead = True
        reactor.callFromThread(self._tell)  # type: ignore[attr-defined]

    def _tell(self) -> None:
        while self._waiting:
            self._waiting.pop().errback(Died())

    async def outlived(self, doing: Any) -> Any:
        """Do it, if there is life enough left."""
        if self.dead:
            doing.close()
            raise Died
        outcome: Deferred[Any] = Deferred()
        self._waiting.append(outcome)

        def end(result: Any) -> None:
            if outcome in self._waiting:
                self._waiting.remove(outcome)
                outcome.callback(result)

        Deferred.fromCoroutine(doing).addBoth(end)
        return await outcome

    async def buried(self) -> None:
        """Wait until what it has asked for has been done: later that would be another test's."""
        self.dead = True
        await gatherResults([_copied(each) for each in self.under_way])
        await self.close()


async def _for_ever() -> None:
    # Kept, or it would be unwound whenever memory is collected, in the middle of anything.
    HUNG.append(Deferred())
    await HUNG[-1]


def _copied(fired: Deferred[None]) -> Deferred[None]:
    copy: Deferred[None] = Deferred()
    fired.addCallback(copy.callback)
    return copy


class OnGoogle(Uploads):
    """Objects that replace one another.

    :cvar overwrite: whether an object may be replaced.
    :ivar former: what the file was before it changed, as long as what is stored may be of that.
    """

    server: GcsServer
    limits = StoreLimits(smallest_part=1, joins_whole=True)
    overwrite = True
    rules_of_policy: dict[str, Any] = {"chunk_size": CHUNK}  # noqa: RUF012

    def __init__(self) -> None:
        self.former: list[bytes] = []
        super().__init__()

    @classmethod
    def new_bucket(cls) -> GcsServer:  # type: ignore[override]
        cls.server.reset()
        cls.server.smallest_part = cls.limits.smallest_part
        return cls.server

    @classmethod
    def new_store(cls, bucket: GcsServer) -> GcsStore:  # type: ignore[override]
        # Without patience each trouble is the service's own. No chance is in the pauses.
        store = bucket.client(transport=Mortal(), patience=0.0, random=lambda: 1.0)
        store._dialect = evolve(store._dialect, limits=cls.limits)
        return store

    @classmethod
    def policy(cls, store: GcsStore) -> Policy:  # type: ignore[override]
        return policy("bucket", overwrite=cls.overwrite, limits=store.limits, **cls.rules_of_policy)

    async def _start(self) -> None:
        await super()._start()
        self._store._ask_ledger = Maintenance(self._database).identity

    @property
    def _transport(self) -> Mortal:
        found: Mortal = self._store._transport
        return found

    # Hooks

    def do(self, doing: Any) -> Any:
        return run(self._transport.outlived(doing))

    def come_back(self) -> None:
        self.die()
        if self._upload is not None and run(self._current()).state is State.CANCELLED:
            self._upload = None

    def in_trouble(self) -> bool:
        return bool(self._bucket.faults) or self._transport.dead

    def calm_down(self) -> None:
        with self._bucket.lock:
            self._bucket.faults.clear()
            self._bucket.passing.clear()
        run(self._quiet())
        if self._transport.dead:
            self.come_back()
        # A chunk that is just being joined may make the upload whole in the middle of what comes next.
        run(self._settle())

    async def _quiet(self) -> None:
        """Wait until no request can be in trouble any more."""
        await gatherResults([_copied(each) for each in self._transport.under_way])

    def kill(self) -> None:
        run(self._transport.buried())

    def _object(self, key: str) -> bytes | None:
        found = self._bucket.buckets["bucket"].get(key)
        return None if found is None else found.data

    def _part(self, multipart_id: str | None, number: int) -> bytes | None:
        if multipart_id is None:
            return None
        word, staged = word_of(multipart_id), parse_id(multipart_id)
        if word is not None:
            return self._object(f"{PREFIX}composed/parts/{word}/{number:05}")
        found = self._bucket.multiparts.get(multipart_id if staged is None else staged.upload_id)
        return found.parts.get(number, (None, ""))[0] if found is not None else None

    def make_room(self) -> None:
        if not self.overwrite:
            with self._bucket.lock:
                self._bucket.buckets["bucket"].pop("name", None)

    def versions(self) -> list[bytes]:
        return [self._data, *self.former]

    def settled(self) -> None:
        self.former = []

    async def clean_up(self) -> None:
        await self._settle()
        await super().clean_up()
        await self._settle()
        # Of what was opened, or ended, when an answer was lost, something may be left that only the janitor finds.
        assert [each for each in self.left() if not each.startswith(f"{PREFIX}composed/")] == []
        janitor = Janitor(
            self._uploads,
            Maintenance(self._database),
            EventQueue(self._database),
            self._store,
            reactor,  # type: ignore[arg-type]
            after=-60.0,
            every=60.0,
            keep=60.0,
            bucket="bucket",
            prefix=PREFIX,
        )
        assert {removal.kind async for removal in janitor.clean()} <= {"multipart"}

    async def _settle(self) -> None:
        await self._deps.joins.settle()
        await self._deps.background.settle()

    def left(self) -> list[Any]:
        """What is not an object, nor a multipart upload without parts, which only the janitor finds."""
        with self._bucket.lock:
            objects = [key for key in self._bucket.buckets["bucket"] if key != "name"]
            return [*objects, *(one.key for one in self._bucket.multiparts.values() if one.parts)]

    def teardown(self) -> None:
        super().teardown()
        assert self._bucket.multiparts == {}
        run(self._transport.buried())

    # Rules. Whatever is done may be troubled, and where there is no upload, one is begun.

    create_another = ask = None  # type: ignore[assignment]

    @contextmanager
    def _troubled(self, troubles: Sequence[Trouble]) -> Iterator[None]:
        """Let something go wrong meanwhile, and no longer."""
        for one in troubles:
            self.trouble(**asdict(one))
        try:
            yield
        finally:
            if troubles:
                with self._bucket.lock:
                    self._bucket.faults.clear()
                    self._bucket.passing.clear()

    @rule(name=NAMES, after=st.integers(0, 9), way=st.sampled_from(sorted(WAYS)), done=st.booleans())
    def trouble(self, name: str, after: int, way: str, done: bool) -> None:
        """A request fails, with its work done or not; or the process dies of it. It is the next of a kind, or any."""
        status, code = WAYS[way]
        then: Callable[[], object] | None = self._die if way == "death" else None
        with self._bucket.lock:
            self._bucket.faults.append(Fault(name, status, done=done, code=code, then=then))
            self._bucket.passing[name] += after if name == "*" else 0

    @rule(
        new=st.tuples(st.integers(1, 6 * CHUNK), st.integers(0, 1000), st.booleans()),
        back=st.integers(-3, 3 * CHUNK),
        size=st.one_of(st.integers(1, 6 * CHUNK), st.just(6 * CHUNK)),
        step=st.integers(1, 40),
        drop=st.booleans(),
        troubles=TROUBLES,
    )
    def send(  # type: ignore[override]
        self, new: tuple[int, int, bool], troubles: Sequence[Trouble], **how: Any
    ) -> None:
        if self._upload is None:
            self.create(length=new[0], seed=new[1], known=new[2])
        with self._troubled(troubles):
            super().send(**how)

    @rule(troubles=TROUBLES)
    def cancel(self, troubles: Sequence[Trouble]) -> None:  # type: ignore[override]
        with self._troubled(troubles):
            super().cancel()

    def _die(self) -> None:
        self._transport.die()

    @rule(patient=st.booleans())
    def be_patient(self, patient: bool) -> None:
        """From now on the client tries again by itself."""
        for calls in (self._store._calls, self._store._resources._calls):
            calls._patience = 5.0 if patient else 0.0

    @rule(
        key=st.integers(1, 255),
        size=st.integers(1, 6 * CHUNK),
        step=st.integers(1, 40),
        drop=st.booleans(),
        troubles=TROUBLES,
    )
    @survived
    def change_the_file(self, key: int, troubles: Sequence[Trouble], **how: Any) -> None:
        """The client comes with other bytes, from byte 0 on."""
        if self._upload is None or self.swarm:
            return
        self._offset()
        if self._upload is None:
            return
        self.former.append(self._data)
        self._data = bytes(byte ^ key for byte in self._data)
        if self._data in self.former:
            self.former.remove(self._data)
        with self._troubled(troubles):
            super().send(back=1000, **how)

    @rule()
    @survived
    def open_to_many(self) -> None:
        if self._upload is None or self.former or not self._known:
            return

        async def open_it() -> None:
            await self._uploads.open_to_many(await self._current())

        self.swarm = True
        try:
            self.do(open_it())
        except UploadError:
            assert self.in_trouble()

    @rule(
        cut=st.integers(0, 6 * CHUNK),
        more=st.integers(-CHUNK, CHUNK),
        step=st.integers(1, 40),
        drops=st.tuples(st.booleans(), st.booleans()),
        troubles=TROUBLES,
    )
    @survived
    def send_two(self, troubles: Sequence[Trouble], **how: Any) -> None:
        """Two connections at once, whose ranges overlap, or leave something out."""
        if self._upload is not None and self.swarm:
            with self._troubled(troubles):
                self._send_two(**how)

    def _send_two(self, cut: int, more: int, step: int, drops: tuple[bool, bool]) -> None:
        troubled = self.in_trouble() or self._stalled is not None
        length = len(self._data)
        spans = [(0, max(1, min(cut + more, length))), (min(cut, length - 1), length)]
        doing = []
        for (first, end), drop in zip(spans, drops, strict=True):
            _, done, sent = self.do(self._send(first, end - first, step, drop=drop, stall=False))
            doing.append((done, first, sent))
        for done, first, sent in doing:
            outcome = self.do(wait(done))
            if isinstance(outcome, (Interrupted, Unavailable, Superseded, Ended)):
                continue
            assert not isinstance(outcome, Exception), repr(outcome)
            assert outcome.coverage.covers(first, sent)
        if not troubled and not any(drops) and more >= 0:
            self._offset()
            assert self._upload is None


class Staged(OnGoogle):
    """Objects that must not replace another: completed elsewhere, and moved."""

    overwrite = False


class Composed(OnGoogle):
    """Chunks of several cells, made of fragments within the store: see `tests.uploads.test_states.LargeChunks`."""

    step = 2
    limits = StoreLimits(smallest_part=3, largest_part=28, joins_whole=True)
    rules_of_policy: dict[str, Any] = {"chunk_size": 4, "memory": 32, "max_chunk": 4, "max_parts": 13}  # noqa: RUF012


class ComposedAlone(Composed):
    """The same, where no object must be replaced."""

    overwrite = False


@pytest.mark.soak
@pytest.mark.parametrize(("machine", "examples"), [(OnGoogle, 8), (Staged, 12), (Composed, 8), (ComposedAlone, 8)])
@ensureDeferred
async def test_whatever_happens(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, logged: list[Any], machine: type[OnGoogle], examples: int
) -> None:
    """Every example is some twenty steps, always the same ones."""
    monkeypatch.setattr(grid, "STEP", machine.step)
    short_claims(monkeypatch)
    monkeypatch.setattr(machine, "server", gcs, raising=False)
    how = every_time(examples, 20, shrinks=False)
    await deferToThread(run_state_machine_as_test, machine, settings=how)
    logged.clear()  # of all that went wrong
