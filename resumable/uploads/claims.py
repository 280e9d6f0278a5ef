"""Claims: one upload at a time makes, or removes, the object under a key, in all processes that share a ledger.

Every call that makes or removes an object is made under its key's claim. The claim is in the ledger, in the upload's row: a
word that changes as long as whoever has it lives. Who wants it watches that word, by a clock of its own, and takes it over
when it has not changed for `LEASE` seconds; no two machines' clocks are compared. A claim says, too, on which machine and at
which moment of that machine's clock it came about. On the same machine its age is known at once: a service that is killed
again and again waits no longer than one that was killed once.

A call may take effect although nobody hears of it: its answer was lost, or its process died. Then the claim is left to lie,
and the next to make an object under the key waits `LEASE` seconds too. That is the window: a call that takes effect later
than this after the last sign of life of who made it is not fenced.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from resumable.boot import moment, seconds_since
from resumable.ledger.claims import Holder
from resumable.ledger.ledger import Ledger
from resumable.model import LIVE, Ended, State, Unavailable, Upload

T = TypeVar("T")

#: Seconds without a sign of life after which a claim is anybody's, between two signs, and between looks of who waits.
LEASE = 10.0
BEAT = 2.5
LOOK = 0.2
#: Seconds for which a claim that somebody else has is waited for.
WAIT = 60.0


def new_claim() -> str:
    """Return a word that was never used before, and that says when it came about."""
    return moment()


class Claim:
    """The claim of one upload to its key: the fence of the calls that are made under it (`resumable.stores.port.Fence`).

    :ivar word: what stands in the ledger.
    :ivar given_up: whether the ledger was told so with something else.
    :ivar doubtful: whether a call that was made under it may still take effect, though nobody waits for it any more.
    """

    _log = Logger()

    def __init__(
        self, ledger: Ledger, clock: IReactorTime, upload: Upload, word: str, states: Collection[State], since: float
    ) -> None:
        """
        :param states: in which the upload has to stay; once it has come into another, nothing more is begun.
        :param since: when the word came into the ledger, at the earliest (by `clock`).
        """
        self.upload = upload
        self.word = word
        self.doubtful = False
        self.given_up = False
        self._ledger = ledger
        self._clock = clock
        self._states = states
        self._seen = since
        #: Why nothing more may be made under it.
        self._over: Exception | None = None
        self._lost = False
        self._timer: IDelayedCall | None = None
        self._renewals = DeferredLock()
        self._call: Deferred[Any] | None = None
        self._pausing: Deferred[None] | None = None

    @property
    def fresh(self) -> bool:
        """Whether the last sign of life is so recent that nobody can have taken the claim."""
        return not self._lost and self._clock.seconds() - self._seen < LEASE / 2

    async def run(self, call: Coroutine[Any, Any, T]) -> T:
        """Make a call under the claim, which gives signs of life meanwhile.

        :raises Unavailable: the claim was lost, or nobody can say whether it was; the call has been given up.
        :raises Ended: the upload has ended, and the call came to nothing.
        """
        if self._over is not None or not self.fresh:
            try:
                await self.proceed()
            except BaseException:
                call.close()
                raise
        self._timer = self._clock.callLater(BEAT, self._beat)
        calling: Deferred[T] = Deferred.fromCoroutine(call)
        self._call = calling
        try:
            return await calling
        except CancelledError:
            if self._over is None:
                raise
            raise self._over from None
        finally:
            self._call = None
            if self._timer is not None and self._timer.active():
                self._timer.cancel()
            self._timer = None

    # Signs of life

    def _beat(self) -> None:
        left = self._seen + LEASE - BEAT / 2 - self._clock.seconds()
        if left <= 0:
            self._lose()
            return
        self._timer = self._clock.callLater(min(BEAT, left), self._beat)
        Deferred.fromCoroutine(self._renew()).addErrback(self._not_renewed)

    def _not_renewed(self, failure: Failure) -> None:
        # It is tried again, until the claim counts as lost.
        if not failure.check(Unavailable):
            self._log.failure("a claim could not be renewed", failure)

    async def _renew(self) -> None:
        """Give a sign of life; one at a time, for each follows from the one before."""
        await self._renewals.run(self._renew_alone)

    async def _renew_alone(self) -> None:
        begun, word = self._clock.seconds(), new_claim()
        state = await self._ledger.renew_claim(self.upload, self.word, word)
        if state is None:
            self._lose()
            return
        self.word, self._seen = word, begun
        if state not in self._states:
            self.stop(Ended("the upload has ended"))

    def _lose(self) -> None:
        """Somebody else may have the claim: what is under way is given up, whatever becomes of it."""
        self._lost = True
        self.stop(Unavailable("the claim to the object's key was lost"))
        if self._call is not None:
            self._call.cancel()

    def stop(self, why: Exception) -> None:
        """Begin nothing more; a call that is under way is left to its end, for then it is known what came of it."""
        if self._over is None:
            self._over = why
        pausing, self._pausing = self._pausing, None
        if pausing is not None:
            pausing.callback(None)

    # Fence

    async def proceed(self) -> None:
        """See `resumable.stores.port.Fence`."""
        if self._over is None:
            await self._renew()
        if self._over is not None:
            raise self._over

    async def pause(self, seconds: float) -> None:
        """See `resumable.stores.port.Fence`."""
        if self._over is not None:
            return
        pausing = self._pausing = Deferred()
        timer = self._clock.callLater(seconds, self._wake)
        try:
            await pausing
        finally:
            self._pausing = None
            if timer.active():
                timer.cancel()

    def _wake(self) -> None:
        pausing, self._pausing = self._pausing, None
        if pausing is not None:
            pausing.callback(None)

    def doubt(self) -> None:
        """See `resumable.stores.port.Fence`."""
        self.doubtful = True

    def tidy_up(self) -> None:
        """From now on it is for removing what was made: that the upload has ended stops nothing more."""
        self._states = tuple(State)
        if not self._lost:
            self._over = None

    # The end

    @property
    def left(self) -> str | None:
        """What is to stand in the ledger when all is done: nothing, or the claim if there is doubt."""
        return self.word if self.doubtful else None

    async def quiet(self) -> None:
        """Wait until no sign of life is on its way, so that `word` is what stands in the ledger."""
        await self._renewals.acquire()
        self._renewals.release()

    async def release(self) -> None:
        """Give the claim up, unless there is doubt."""
        await self.quiet()
        if not (self.doubtful or self._lost or self.given_up):
            try:
                await self._ledger.unclaim(self.upload, self.word)
            except Unavailable:
                self._log.info("the claim of upload {id} is left to lie", id=self.upload.id)

    async def hand_back(self, former_id: str) -> None:
        """Let the one that the claim was taken from have it again: what that left under the key is still to be seen to."""
        await self.quiet()
        if not self._lost:
            try:
                await self._ledger.hand_claim_on(self.upload, self.word, former_id, new_claim())
            except Unavailable:
                self._log.info("the claim of upload {id} is left to lie", id=self.upload.id)


class Claims:
    """The claims of this process.

    :param settle: sees, under the claim of another, to what an upload whose claim was left to lie may have left under the key.
    """

    def __init__(
        self, ledger: Ledger, clock: IReactorTime, settle: Callable[[Upload, Claim], Coroutine[Any, Any, None]]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._settle = settle
        self._held: defaultdict[str, list[Claim]] = defaultdict(list)
        #: By upload and edition: the claims that were left to lie here. The upload itself need not wait for them: what comes
        #: late of it are its own bytes.
        self._lying: dict[tuple[str, int], str] = {}

    def of(self, upload: Upload, since: float) -> Claim | None:
        """Return the claim that was entered with the upload's row just now, after `since`; None if there was none."""
        return None if upload.claim is None else self._keep(upload, upload.claim, LIVE, since)

    def _keep(self, upload: Upload, word: str, states: Collection[State], since: float) -> Claim:
        claim = Claim(self._ledger, self._clock, upload, word, states, since)
        self._held[upload.id].append(claim)
        return claim

    async def take(self, upload: Upload, states: Collection[State] = LIVE) -> Claim:
        """Wait until the key is free, or left to lie, and claim it.

        :raises Ended: the upload is in none of `states`.
        :raises Unavailable: somebody else's object is being made there for too long.
        """
        deadline = self._clock.seconds() + WAIT
        mine = self._lying.pop((upload.id, upload.edition), None) if upload.live else None
        holder = None if mine is None else Holder(upload.id, mine)
        since = -LEASE if mine is not None else 0.0
        while True:
            begun, word = self._clock.seconds(), new_claim()
            stale = holder if holder is not None and begun - since >= LEASE else None
            found = await self._ledger.claim(upload, word, states=states, stale=stale)
            if found is None:
                claim = self._keep(upload, word, states, begun)
                # What is still to come may come after this, too. (Who tidies up waits for it instead.)
                claim.doubtful = mine is not None and stale is not None and stale.claim == mine
                if stale is None or stale.upload_id == upload.id:
                    return claim
                await self._settle_under(claim, stale.upload_id)
                if not claim.doubtful:
                    return claim
                # A deletion may come late: it, too, is waited for.
                await self.drop(claim)
            elif found != holder:
                holder, since = found, self._clock.seconds() - seconds_since(found.claim)
                if self._clock.seconds() - since >= LEASE:
                    continue
            if self._clock.seconds() > deadline:
                raise Unavailable("another object is being made under the same key")
            await deferLater(self._clock, LOOK)

    async def _settle_under(self, claim: Claim, former_id: str) -> None:
        try:
            former = await self._ledger.get(former_id)
            if former is not None:
                await claim.run(self._settle(former, claim))
        except BaseException:
            self.forget(claim)
            await claim.hand_back(former_id)
            raise

    async def drop(self, claim: Claim | None) -> None:
        """Give a claim up; it is kept in the ledger if there is doubt about what was done under it."""
        if claim is not None:
            self.forget(claim)
            await claim.release()
            if claim.doubtful and not claim.given_up:
                self._lying[claim.upload.id, claim.upload.edition] = claim.word

    def forget(self, claim: Claim | None) -> None:
        """Know no more of a claim that has been given up in the ledger."""
        if claim is not None:
            held = self._held[claim.upload.id]
            held.remove(claim)
            if not held:
                del self._held[claim.upload.id]

    def ended(self, upload_id: str) -> None:
        """Try no call again that makes the object of an upload: it has ended."""
        for key in [key for key in self._lying if key[0] == upload_id]:
            del self._lying[key]
        for claim in self._held.get(upload_id, ()):
            claim.stop(Ended("the upload has ended"))

    def entered(self, upload_id: str) -> Claim | None:
        """Return the claim of an upload that was entered here just now."""
        held = self._held.get(upload_id)
        return held[0] if held else None

    def holds(self, upload_id: str) -> bool:
        """Say whether the upload's claim is held here: whoever has it sees to the key."""
        return upload_id in self._held
