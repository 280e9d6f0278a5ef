"""Clients send, drop, come back, ask and cancel; the store is in trouble, the process dies: a bytearray says what is right.

A state machine of Hypothesis over the upload service, with a real ledger and a store in memory, on chunks of 16 bytes.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.threads import blockingCallFromThread, deferToThread
from zope.interface import implementer

from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.model import (
    Conflict,
    Ended,
    Gap,
    Interrupted,
    Piece,
    State,
    Superseded,
    Unavailable,
    Upload,
    UploadError,
)
from resumable.stores.port import StoreLimits
from resumable.tasks import BackgroundTasks
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads import grid
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import CreateRequest, Policy
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService
from tests.databases import Postgres
from tests.policy import policy
from tests.stateful import came_too_late, every_time, short_claims
from tests.uploads.memory_store import CALLS, Bucket, MemoryStore

T = TypeVar("T")
CHUNK = 16


def run(doing: Coroutine[Any, Any, T]) -> T:
    """Have the reactor's thread do it, soon: Hypothesis has a thread of its own."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(doing).addTimeout(10, reactor)  # type: ignore[arg-type]

    return cast(T, blockingCallFromThread(reactor, begin))  # type: ignore[arg-type]


async def certain() -> None:
    """Whoever writes may finish."""


async def wait(done: Deferred[T]) -> T:
    return await done


class Died(Exception):
    """The process died before it was done."""


def survived(step: Callable[..., None]) -> Callable[..., None]:
    """A rule in the midst of which the process may die."""

    @wraps(step)
    def take(machine: Uploads, **drawn: Any) -> None:
        try:
            step(machine, **drawn)
        except Died:
            machine.come_back()

    return take


@implementer(IPushProducer)
class Body:
    """A client's body: all of it, or as much as is sent before it breaks off; it may fall silent before its end."""

    def __init__(self, data: bytes, step: int, *, drop: bool, stall: bool) -> None:
        self._segments = [data[at : at + step] for at in range(0, len(data), step)]
        self._drop = drop
        self._stall = stall
        self._stopped = self._paused = False
        self._waiting: Deferred[None] | None = None

    async def pour_into(self, consumer: IConsumer) -> None:
        consumer.registerProducer(self, True)
        try:
            for segment in self._segments:
                while self._paused and not self._stopped:
                    await self._wait()
                if self._stopped:
                    return
                consumer.write(segment)
            while self._stall and not self._stopped:
                await self._wait()
        finally:
            consumer.unregisterProducer()
        if self._drop and not self._stopped:
            raise Interrupted("as the test wants it")

    def _wait(self) -> Deferred[None]:
        self._waiting = Deferred()
        return self._waiting

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def go_on(self) -> None:
        self._stall = False
        self._wake()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self._wake()

    def stopProducing(self) -> None:
        self._stopped = True
        self._wake()


class Uploads(RuleBasedStateMachine):
    """One upload after the other.

    No rule has a precondition: how far an upload has come depends on the ledger's threads, and what Hypothesis draws may
    not. A rule that does not fit does nothing.

    :cvar unit: bytes. All that is drawn is so many times larger.
    :ivar acknowledged: bytes from the start that somebody was told are safe.
    :ivar step: chunks of one size, where the length is not known.
    :ivar swarm: whether many connections may write the upload.
    """

    step = grid.STEP
    unit = 1
    swarm = False

    @staticmethod
    def new_ledger(directory: str) -> str:
        """The URL of the ledger, which may be in the directory."""
        return f"sqlite:///{directory}/ledger.sqlite3"

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._ledger_url = self.new_ledger(self._directory.name)
        self._bucket = self.new_bucket()
        self._data = b""
        self._upload: Upload | None = None
        self._stalled: tuple[Body, Deferred[Any]] | None = None
        self.acknowledged = 0
        run(self._start())

    async def _start(self) -> None:
        self._database = Database(self._ledger_url, reactor, threads=2)
        self._database.prepare()
        self._database.start()
        self._ledger = Ledger(self._database)
        self._store = self.new_store(self._bucket)
        budget = MemoryBudget(4096 * self.unit, reactor)  # type: ignore[arg-type]
        identity = await Maintenance(self._database).identity()
        self._deps = Dependencies(
            ledger=self._ledger,
            store=self._store,
            fragments=Fragments(self._store, budget, ".resumable/", identity, alone=True),
            budget=budget,
            read_back=ReadBackLimiter(CHUNK * self.unit),
            clock=reactor,  # type: ignore[arg-type]
            background=BackgroundTasks(4),
        )
        self._uploads = UploadService(self._deps, self.policy(self._store))

    # What the store is

    @staticmethod
    def new_bucket() -> Bucket:
        return Bucket()

    @staticmethod
    def new_store(bucket: Bucket) -> MemoryStore:
        return MemoryStore(bucket)

    @staticmethod
    def policy(store: MemoryStore) -> Policy:
        return policy("bucket", chunk_size=CHUNK, limits=store.limits)

    def do(self, doing: Coroutine[Any, Any, T]) -> T:
        """Have the process do it.

        :raises Died: it dies first.
        """
        return run(doing)

    def come_back(self) -> None:
        """Start the process that has died in the midst of a rule."""
        raise NotImplementedError

    def in_trouble(self) -> bool:
        return bool(self._store.trouble)

    def calm_down(self) -> None:
        """Nothing goes wrong any more."""
        self._store.trouble.clear()

    def kill(self) -> None:
        self._store.dead = True

    def made(self) -> bytes | None:
        """The object."""
        return self._object("name")

    def _object(self, key: str) -> bytes | None:
        return self._bucket.objects.get(key, (None, {}))[0]

    def _part(self, multipart_id: str | None, number: int) -> bytes | None:
        multipart = self._bucket.multiparts.get(multipart_id or "")
        return multipart[2].get(number) if multipart else None

    def make_room(self) -> None:
        """See to it that the next upload's object may be made."""

    def left(self) -> list[Any]:
        """What there is in the store besides objects. One whose id was in an answer that was lost has no parts."""
        fragments = [key for key in self._bucket.objects if key.startswith(".resumable/")]
        return [*fragments, *(parts for _, _, parts in self._bucket.multiparts.values() if parts)]

    async def clean_up(self) -> None:
        """Do what is done by the clock."""
        maintenance = Maintenance(self._database)
        await CompletionRecovery(self._uploads, maintenance, reactor, give_up_after=60).round(idle=-1)  # type: ignore[arg-type]

    # What the file is

    def versions(self) -> list[bytes]:
        """What the bytes that are stored may be of: one of these files."""
        return [self._data]

    def settled(self) -> None:
        """Note that all that counts is of the present file: a body that began at byte 0 was stored."""

    @initialize(length=st.integers(1, 6 * CHUNK), seed=st.integers(0, 1000), known=st.booleans())
    @survived
    def create(self, length: int, seed: int, known: bool) -> None:
        # The end lies at no multiple of the unit.
        self._data = random.Random(seed).randbytes(length * self.unit - seed % self.unit)
        self._known = known
        self.swarm = False
        self.settled()
        self.make_room()
        wanted = CreateRequest("put", "name", length=len(self._data) if known else None)
        self._upload = self.do(self._uploads.create(wanted))
        self.acknowledged = 0

    @rule(length=st.integers(1, 6 * CHUNK), seed=st.integers(0, 1000), known=st.booleans())
    def create_another(self, length: int, seed: int, known: bool) -> None:
        if self._upload is None:
            self.create(length=length, seed=seed, known=known)

    async def _current(self) -> Upload:
        assert self._upload is not None
        current = await self._ledger.get(self._upload.id)
        assert current is not None
        return current

    async def _receive(self, body: Body, first: int, end: int) -> Any:
        last = end == len(self._data)
        try:
            return await self._uploads.receive(
                await self._current(), body, Span(first, end, last=last), revalidate=certain
            )
        except (UploadError, AssertionError) as error:
            return error

    async def _send(
        self, first: int, size: int, step: int, *, drop: bool, stall: bool
    ) -> tuple[Body, Deferred[Any], int]:
        first = min(first, len(self._data) - 1)
        sent = min(first + size, len(self._data))
        # One that drops or is silent has promised more than it sends.
        end = len(self._data) if drop or stall else sent
        body = Body(self._data[first:sent], step * self.unit, drop=drop or sent < end, stall=stall)
        return body, Deferred.fromCoroutine(self._receive(body, first, end)), sent

    @rule(
        back=st.integers(-3, 3 * CHUNK),
        size=st.one_of(st.integers(1, 6 * CHUNK), st.just(6 * CHUNK)),
        step=st.integers(1, 40),
        drop=st.booleans(),
    )
    @survived
    def send(self, back: int, size: int, step: int, drop: bool) -> None:
        """From what is acknowledged, from before it, or (to be refused) from past it."""
        if self._upload is None:
            return
        troubled = self.in_trouble() or self._stalled is not None
        offset = self._offset()
        if self._upload is None:
            return
        first = self._beginning(offset - back * self.unit)
        if first == 0 and not self.swarm:
            # Who begins again at byte 0 brings all of it anew.
            self.acknowledged = 0
        _, done, sent = self.do(self._send(first, size * self.unit, step, drop=drop, stall=False))
        outcome = self.do(wait(done))
        troubled = troubled or came_too_late(outcome)
        if isinstance(outcome, Gap):
            assert first > offset or troubled
        elif self._is_of_another(outcome):
            pass
        elif isinstance(outcome, (Interrupted, Unavailable, Superseded, Ended)):
            assert troubled or (drop and isinstance(outcome, Interrupted)), outcome
        else:
            assert not isinstance(outcome, Exception), repr(outcome)
            # What was answered is promised.
            self.acknowledged = max(self.acknowledged, outcome.offset)
            assert outcome.coverage.covers(min(first, len(self._data) - 1) if self.swarm else 0, sent)
            if first == 0:
                self.settled()
        if not troubled and not isinstance(outcome, Gap) and not self._is_of_another(outcome):
            assert self._offset() >= sent or self.swarm

    def _is_of_another(self, outcome: Any) -> bool:
        """Say whether a body is refused because what is stored may be of another file.

        All of that may have come, and lack only its object; or its object was made, and nobody has heard of it. Then the
        client is told to come again.
        """
        in_the_way = isinstance(outcome, Unavailable) and "was in the way" in str(outcome)
        return (in_the_way or isinstance(outcome, (Conflict, Superseded))) and len(self.versions()) > 1

    def _beginning(self, wanted: int) -> int:
        """Where a body begins: whoever has another file than before begins at byte 0."""
        return max(0, wanted) if len(self.versions()) == 1 else 0

    @rule(back=st.integers(0, CHUNK), size=st.integers(1, 3 * CHUNK), step=st.integers(1, 40), drop=st.booleans())
    @survived
    def fall_silent(self, back: int, size: int, step: int, drop: bool) -> None:
        if self._upload is None or self._stalled is not None or len(self.versions()) > 1:
            return
        offset = self._offset()
        if offset < len(self._data) and self._upload is not None:
            first = max(1, offset - back * self.unit)
            body, done, _ = self.do(self._send(first, size * self.unit, step, drop=drop, stall=True))
            self._stalled = (body, done)

    @rule()
    @survived
    def be_checkpointed(self) -> None:
        self.do(self._uploads.writing.checkpoint())
        self.do(self._uploads.writing.checkpoint())

    @rule()
    @survived
    def end_the_silence(self) -> None:
        if self._stalled is None:
            return
        (body, done), self._stalled = self._stalled, None
        blockingCallFromThread(reactor, body.go_on)  # type: ignore[arg-type]
        outcome = self.do(wait(done))
        assert not isinstance(outcome, AssertionError), repr(outcome)

    @rule()
    @survived
    def ask(self) -> None:
        if self._upload is not None:
            self._offset()

    def _offset(self) -> int:
        """What a client is told; once told, it stays true."""

        async def query() -> Any:
            return await self._uploads.report(await self._current())

        report = self.do(query())
        assert report.offset >= self.acknowledged
        self.acknowledged = report.offset
        if report.finished:
            assert self.made() in self.versions()
            self._over()
        return int(report.offset)

    def _over(self) -> None:
        """The upload has ended; the next may begin."""
        self._upload = None
        if self._stalled is not None:
            self.end_the_silence()

    @rule()
    @survived
    def cancel(self) -> None:
        if self._upload is None:
            return

        async def cancel() -> None:
            await self._uploads.cancel(await self._current())

        self.do(cancel())
        current = run(self._current())
        assert current.state in (State.CANCELLED, State.FINISHED), current.reason
        self._over()

    @rule(call=st.sampled_from(CALLS), when=st.sampled_from(["before", "after"]))
    def trouble(self, call: str, when: str) -> None:
        """The next call of this kind fails, with its work done or not."""
        self._store.trouble.append((call, when))

    @rule()
    def die(self) -> None:
        """Kill the process and start it again: nothing that was under way goes on."""
        self.kill()
        self._stalled = None
        run(self._database.close())
        run(self._start())

    @invariant()
    def stored_bytes_are_right(self) -> None:
        """Whatever the ledger says is stored is in the store, with the right bytes."""
        if self._upload is None:
            return
        before = None
        # A writer that is silent may still have something under way, so wrong is only what stays wrong.
        while (now := run(self._told())) != before:
            before = now
            if now[0] != State.OPEN or all(self._stored(piece) in self._wanted(piece) for piece in now[1]):
                return
        raise AssertionError(f"not in the store as the ledger says: {now}")

    async def _told(self) -> tuple[State, list[Piece]]:
        current = await self._current()
        return current.state, await self._ledger.pieces(current.id)

    def _stored(self, piece: Piece) -> bytes | None:
        assert self._upload is not None
        if piece.number is None:
            return self._object(f".resumable/{self._upload.id}/{piece.first}-{piece.end - 1}.{piece.etag}")
        return self._part(run(self._current()).multipart_id, piece.number)

    def _wanted(self, piece: Piece) -> list[bytes]:
        return [data[piece.first : piece.end] for data in self.versions()]

    def teardown(self) -> None:
        """With no more trouble every upload ends, and nothing but objects is left."""
        self.calm_down()
        if self._stalled is not None:
            self.end_the_silence()
        for _ in range(3 if len(self.versions()) == 1 else 4):
            offset = self._offset() if self._upload is not None else 0
            if self._upload is None:
                break
            if len(self.versions()) > 1 and run(self._current()).state is State.FINISHING:
                # All of a former file has come, and lacks only its object: whoever brings another is told to come again.
                run(self.clean_up())
                continue
            first = self._beginning(min(offset, len(self._data) - 1))
            if first == 0 and not self.swarm:
                self.acknowledged = 0
            _, done, _ = run(self._send(first, len(self._data), 7, drop=False, stall=False))
            outcome = run(wait(done))
            if isinstance(outcome, Unavailable) and self._is_of_another(outcome):
                continue
            assert not isinstance(outcome, Exception), (repr(outcome), self._upload and run(self._current()).reason)
            if first == 0:
                self.settled()
        assert self._upload is None
        run(self.clean_up())
        assert self.left() == []
        run(self._database.close())
        self._directory.cleanup()


class LargeChunks(Uploads):
    """Chunks that grow with the length, and chunks of several cells, which the store joins.

    Of a known length from 41 bytes on they have 28 bytes, in cells of 7; of an unknown length 4, 4, 8, 8, 8, 24, 24 ..., the
    last in cells of 8. Each rule may find one of them in the middle of being joined.
    """

    step = 2

    @staticmethod
    def new_bucket() -> Bucket:
        return Bucket(smallest=3)

    @staticmethod
    def new_store(bucket: Bucket) -> MemoryStore:
        store = MemoryStore(bucket)
        store.limits = StoreLimits(smallest_part=3, largest_part=28)
        return store

    @staticmethod
    def policy(store: MemoryStore) -> Policy:
        return policy("bucket", chunk_size=4, memory=32, max_chunk=4, max_parts=10, limits=store.limits)


@pytest.mark.parametrize(
    ("machine", "kind", "examples"),
    [
        (Uploads, "sqlite", 25),
        (LargeChunks, "sqlite", 10),
        pytest.param(Uploads, "postgresql", 15, marks=pytest.mark.soak),
        pytest.param(LargeChunks, "postgresql", 10, marks=pytest.mark.soak),
    ],
)
@ensureDeferred
async def test_whatever_happens(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, machine: type[Uploads], kind: str, examples: int
) -> None:
    """Every example is some thirty steps, always the same ones."""
    monkeypatch.setattr(grid, "STEP", machine.step)
    short_claims(monkeypatch)
    if kind == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        machine = type("OnPostgres", (machine,), {"new_ledger": staticmethod(lambda directory: server.new())})
    how = every_time(examples, 30)
    await deferToThread(run_state_machine_as_test, machine, settings=how)
