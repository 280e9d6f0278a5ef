"""The state machine of `tests.uploads.test_states` over a store that is asked by HTTP.

There every call of the port fails as a whole. Here each request does: a call that takes several ends after any of them, and
so does the process. When all is over the bucket has objects, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater

from resumable.model import Ended, Interrupted, State, Superseded, Unavailable, UploadError
from resumable.stores.transport.exchange import Answer, Broken
from resumable.stores.transport.pool import Transport
from resumable.uploads.policy import Policy
from tests.cleaning import janitor_of
from tests.policy import policy
from tests.stateful import came_too_late
from tests.uploads.test_states import CHUNK, Died, Uploads, run, survived, wait

PREFIX = ".resumable/"
#: What dead processes wait for, for ever.
_HUNG: list[Deferred[None]] = []
#: What may go wrong, as the machine draws it.
TROUBLE: st.SearchStrategy[Any] = st.runner().flatmap(lambda machine: machine.troubles)
TROUBLES = st.lists(TROUBLE, max_size=2)


class Mortal(Transport):
    """The HTTP of one process: when that is dead, nothing is sent any more, and no answer is heard.

    :ivar under_way: requests whose outcome is not known yet, even if nobody is left to hear of it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(reactor, **options)
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
    _HUNG.append(Deferred())
    await _HUNG[-1]


def _copied(fired: Deferred[None]) -> Deferred[None]:
    copy: Deferred[None] = Deferred()
    fired.addCallback(copy.callback)
    return copy


class OverHttp(Uploads):
    """Objects that replace one another. What stores have of their own is left to their machines.

    :cvar overwrite: whether an object may be replaced.
    :cvar orphans: kinds of what only the janitor finds.
    :cvar for_janitor: what the keys of other objects begin with that may be left until it comes.
    :cvar troubles: what may go wrong with a request: what `befall` takes.
    :ivar former: what the file was before it changed, as long as what is stored may be of that.
    """

    overwrite = True
    orphans = frozenset({"multipart"})
    for_janitor = f"{PREFIX}composed/"
    rules_of_policy: dict[str, Any] = {"chunk_size": CHUNK}  # noqa: RUF012
    troubles: st.SearchStrategy[Any]

    def __init__(self) -> None:
        self.former: list[bytes] = []
        super().__init__()

    @classmethod
    def policy(cls, store: Any) -> Policy:  # type: ignore[override]
        return policy("bucket", overwrite=cls.overwrite, limits=store.limits, **cls.rules_of_policy)

    @property
    def _transport(self) -> Mortal:
        found: Mortal = self._store._transport  # type: ignore[attr-defined]
        return found

    # What the store is

    def befall(self, one: Any) -> None:
        """Have this go wrong with a request that comes."""
        raise NotImplementedError

    def mend(self) -> None:
        """Let nothing go wrong from here on."""
        raise NotImplementedError

    def waiting(self) -> bool:
        """Say whether something is still to go wrong."""
        raise NotImplementedError

    def calls(self) -> Sequence[Any]:
        """What tries again by itself."""
        return [self._store._calls]  # type: ignore[attr-defined]

    def multiparts_left(self) -> bool:
        """Say whether there is any multipart upload."""
        raise NotImplementedError

    # Hooks

    def do(self, doing: Any) -> Any:
        return run(self._transport.outlived(doing))

    def come_back(self) -> None:
        self.die()
        if self._upload is not None and run(self._current()).state is State.CANCELLED:
            self._upload = None

    def in_trouble(self) -> bool:
        return self.waiting() or self._transport.dead

    def calm_down(self) -> None:
        self.mend()
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

    def versions(self) -> list[bytes]:
        return [self._data, *self.former]

    def settled(self) -> None:
        self.former = []

    async def clean_up(self) -> None:
        await self._settle()
        await super().clean_up()
        await self._settle()
        # What came too late for an upload that has ended is freed by whoever has brought it, and nobody waits for that.
        given_up = reactor.seconds() + 5.0  # type: ignore[attr-defined]
        while self._left_over() and reactor.seconds() < given_up:  # type: ignore[attr-defined]
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        # Of what was opened, or ended, when an answer was lost, something may be left that only the janitor finds.
        assert self._left_over() == []
        janitor = janitor_of(self._uploads, self._database, after=-60.0, every=60.0, keep=60.0)
        assert {removal.kind async for removal in janitor.clean()} <= self.orphans

    def _left_over(self) -> list[Any]:
        """What is left that is not for the janitor."""
        return [each for each in self.left() if not each.startswith(self.for_janitor)]

    async def _settle(self) -> None:
        await self._deps.joins.settle()
        await self._deps.background.settle()

    def teardown(self) -> None:
        super().teardown()
        assert not self.multiparts_left()
        run(self._transport.buried())

    # Rules. Whatever is done may be troubled, and where there is no upload, one is begun.

    create_another = ask = None  # type: ignore[assignment]

    @contextmanager
    def _troubled(self, troubles: Sequence[Any]) -> Iterator[None]:
        """Let something go wrong meanwhile, and no longer."""
        for one in troubles:
            self.befall(one)
        try:
            yield
        finally:
            if troubles:
                self.mend()

    @rule(one=TROUBLE)
    def trouble(self, one: Any) -> None:
        """A request fails, with its work done or not; or the process dies of it. It is the next of a kind, or any."""
        self.befall(one)

    @rule(
        new=st.tuples(st.integers(1, 6 * CHUNK), st.integers(0, 1000), st.booleans()),
        back=st.integers(-3, 3 * CHUNK),
        size=st.one_of(st.integers(1, 6 * CHUNK), st.just(6 * CHUNK)),
        step=st.integers(1, 40),
        drop=st.booleans(),
        troubles=TROUBLES,
    )
    def send(  # type: ignore[override]
        self, new: tuple[int, int, bool], troubles: Sequence[Any], **how: Any
    ) -> None:
        if self._upload is None:
            self.create(length=new[0], seed=new[1], known=new[2])
        with self._troubled(troubles):
            super().send(**how)

    @rule(troubles=TROUBLES)
    def cancel(self, troubles: Sequence[Any]) -> None:  # type: ignore[override]
        with self._troubled(troubles):
            super().cancel()

    @rule(patient=st.booleans())
    def be_patient(self, patient: bool) -> None:
        """From now on the client tries again by itself."""
        for calls in self.calls():
            calls._patience = 5.0 if patient else 0.0

    @rule(
        key=st.integers(1, 255),
        size=st.integers(1, 6 * CHUNK),
        step=st.integers(1, 40),
        drop=st.booleans(),
        troubles=TROUBLES,
    )
    @survived
    def change_the_file(self, key: int, troubles: Sequence[Any], **how: Any) -> None:
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
            super().send(back=len(self._data), **how)

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
    def send_two(self, troubles: Sequence[Any], **how: Any) -> None:
        """Two connections at once, whose ranges overlap, or leave something out."""
        if self._upload is not None and self.swarm:
            with self._troubled(troubles):
                self._send_two(**how)

    def _send_two(self, cut: int, more: int, step: int, drops: tuple[bool, bool]) -> None:
        troubled = self.in_trouble() or self._stalled is not None
        length = len(self._data)
        cut, more = cut * self.unit, more * self.unit
        spans = [(0, max(1, min(cut + more, length))), (min(cut, length - 1), length)]
        doing = []
        for (first, end), drop in zip(spans, drops, strict=True):
            _, done, sent = self.do(self._send(first, end - first, step, drop=drop, stall=False))
            doing.append((done, first, sent))
        for done, first, sent in doing:
            outcome = self.do(wait(done))
            troubled = troubled or came_too_late(outcome)
            if isinstance(outcome, (Interrupted, Unavailable, Superseded, Ended)):
                continue
            assert not isinstance(outcome, Exception), repr(outcome)
            assert outcome.coverage.covers(first, sent)
        if not troubled and not any(drops) and more >= 0:
            self._offset()
            assert self._upload is None
