"""Claims: one upload at a time makes or removes the object under a key, in all processes that share a ledger.

Every call that makes or removes an object is made under the claim to its key. The claim is a word in the upload's row
of the ledger. Its holder changes the word again and again, as a sign of life. Another upload that wants the claim
watches the word by its own clock, and takes the claim over when the word has not changed for `LEASE` seconds. Clocks of
two machines are never compared. The word also says on which machine it was made, and when by that machine's clock. So
on the same machine its age is known at once: a service that is killed again and again waits no longer than one that was
killed once.

A call may take effect although nobody hears of it: its answer was lost, or its process died. Then the claim stays in
the ledger without signs of life, and the next upload that makes an object under the key also waits `LEASE` seconds. A
holder that is in doubt gives a last sign of life when it gives up, so that the time counts from there. A call that takes
effect more than `LEASE` seconds after its holder's last sign of life is not fenced.
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
from resumable.clock import cancel_if_active
from resumable.ledger.claims import Holder
from resumable.ledger.ledger import Ledger
from resumable.model import LIVE, Ended, State, Unavailable, Upload

T = TypeVar("T")

#: Seconds without a sign of life after which anybody may take a claim over, between two signs of life, and between two
#: looks of an upload that waits for the claim.
LEASE = 10.0
BEAT = 2.5
LOOK = 0.2
#: Seconds to wait for a claim that somebody else has.
WAIT = 60.0


def new_claim() -> str:
    """Return a word that was never used before, and that says when it was made."""
    return moment()


class Claim:
    """The claim of one upload to its key. It is the `resumable.stores.port.Fence` of the calls that are made under it.

    :ivar word: the word in the ledger.
    :ivar found: the upload as the ledger had it when the claim was entered, as long as that was just now.
    :ivar given_up: whether another change of the upload's row has already given the claim up.
    :ivar doubtful: whether a call that was made under it may still take effect, though nobody waits for it any more.
    """

    _log = Logger()

    def __init__(
        self, ledger: Ledger, clock: IReactorTime, upload: Upload, word: str, states: Collection[State], since: float
    ) -> None:
        """
        :param states: once the upload is in none of these, no more calls are begun.
        :param since: the earliest time at which the word may have come into the ledger (seconds, by `clock`).
        """
        self.upload = upload
        self.word = word
        self.found: Upload | None = None
        self.doubtful = False
        self.given_up = False
        self._ledger = ledger
        self._clock = clock
        self._states = states
        self._seen = since
        #: Why no more calls may be begun under it; None while they may.
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
        """Make a call under the claim, and give signs of life while it runs.

        :raises Unavailable: the claim was lost or may have been lost, so the call was cancelled or not begun.
        :raises Ended: the upload has ended, and the call had no success.
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
            cancel_if_active(self._timer)
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
        # The next beat tries again, until the claim counts as lost.
        if not failure.check(Unavailable):
            self._log.failure("a claim could not be renewed", failure)

    async def _renew(self) -> None:
        """Give a sign of life. Only one runs at a time, for each replaces the word of the one before."""
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
        """Cancel the call under way, whatever it does at the store: somebody else may have the claim now."""
        self._lost = True
        self.stop(Unavailable("the claim to the object's key was lost"))
        if self._call is not None:
            self._call.cancel()

    def stop(self, why: Exception) -> None:
        """Begin no more calls. A call under way runs to its end, so that its outcome is known."""
        if self._over is None:
            self._over = why
        self._wake()

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
            cancel_if_active(timer)

    def _wake(self) -> None:
        pausing, self._pausing = self._pausing, None
        if pausing is not None:
            pausing.callback(None)

    def doubt(self) -> None:
        """See `resumable.stores.port.Fence`."""
        self.doubtful = True

    def tidy_up(self) -> None:
        """Use the claim from now on to remove what was made, which the end of the upload does not stop."""
        self._states = tuple(State)
        if not self._lost:
            self._over = None

    # The end

    @property
    def left(self) -> str | None:
        """What the ledger is to have as the claim when all is done: None, or a last sign of life if there is doubt."""
        return new_claim() if self.doubtful else None

    async def quiet(self) -> None:
        """Wait until no sign of life is on its way, so that the ledger has `word`."""
        await self._renewals.acquire()
        self._renewals.release()

    async def release(self) -> None:
        """Give the claim up; if there is doubt, leave it in the ledger with a last sign of life."""
        await self.quiet()
        if self._lost or self.given_up:
            return
        try:
            if self.doubtful:
                await self._renew()
            else:
                await self._ledger.unclaim(self.upload, self.word)
        except Unavailable:
            self._log.info("the claim of upload {id} could not be given up: it lapses by itself", id=self.upload.id)

    async def hand_back(self, former_id: str) -> None:
        """Give the claim back to the upload that it was taken from.

        That is for when what the former upload left under the key could not be settled.
        """
        await self.quiet()
        if not self._lost:
            try:
                await self._ledger.hand_claim_on(self.upload, self.word, former_id, new_claim())
            except Unavailable:
                self._log.info("the claim of upload {id} could not be given up: it lapses by itself", id=self.upload.id)


class Claims:
    """The claims of this process.

    :param settle: called with an upload that lost its claim, and with the claim of the next one. Deals with what the
        former may have left under the key.
    """

    def __init__(
        self, ledger: Ledger, clock: IReactorTime, settle: Callable[[Upload, Claim], Coroutine[Any, Any, None]]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._settle = settle
        self._held: defaultdict[str, list[Claim]] = defaultdict(list)
        #: Words of claims that this process left in the ledger because of a doubt, by upload and edition. The same
        #: upload need not wait for them, because a late call would only store its own bytes.
        self._lying: dict[tuple[str, int], str] = {}

    def of(self, upload: Upload, since: float) -> Claim | None:
        """Return the claim that was just entered with the upload's row, or None if there was none.

        :param since: a time before it was entered (seconds, by the clock).
        """
        return None if upload.claim is None else self._keep(upload, upload.claim, LIVE, since)

    def _keep(self, upload: Upload, word: str, states: Collection[State], since: float) -> Claim:
        claim = Claim(self._ledger, self._clock, upload, word, states, since)
        self._held[upload.id].append(claim)
        return claim

    async def take(self, upload: Upload, states: Collection[State] = LIVE) -> Claim:
        """Claim the upload's key, as soon as nobody has it or the holder gives no sign of life any more.

        :raises Ended: the upload is in none of `states`.
        :raises Unavailable: another upload has had the claim for all of `WAIT` seconds.
        """
        deadline = self._clock.seconds() + WAIT
        mine = self._lying.pop((upload.id, upload.edition), None) if upload.live else None
        holder = None if mine is None else Holder(upload.id, mine)
        since = -LEASE if mine is not None else 0.0
        while True:
            begun, word = self._clock.seconds(), new_claim()
            stale = holder if holder is not None and begun - since >= LEASE else None
            found = await self._ledger.claim(upload, word, states=states, stale=stale)
            if isinstance(found, Upload):
                claim = self._keep(upload, word, states, begun)
                if stale is None:
                    claim.found = found
                # A late call of the claim that was taken over may still take effect after this one, so the doubt goes
                # on. (`tidy_up` is for those who wait for it instead.)
                claim.doubtful = mine is not None and stale is not None and stale.claim == mine
                if stale is None or stale.upload_id == upload.id:
                    return claim
                await self._settle_under(claim, stale.upload_id)
                if not claim.doubtful:
                    return claim
                # A deletion by `settle` may still take effect late, so wait for that too.
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
        """Give a claim up. It stays in the ledger if a call under it may still take effect."""
        if claim is not None:
            self.forget(claim)
            await claim.release()
            if claim.doubtful and not claim.given_up:
                self._lying[claim.upload.id, claim.upload.edition] = claim.word

    def forget(self, claim: Claim | None) -> None:
        """Forget a claim that has been given up in the ledger."""
        if claim is not None:
            held = self._held[claim.upload.id]
            held.remove(claim)
            if not held:
                del self._held[claim.upload.id]

    def ended(self, upload_id: str) -> None:
        """Begin no more calls that make the object of an upload, for the upload has ended."""
        for key in [key for key in self._lying if key[0] == upload_id]:
            del self._lying[key]
        for claim in self._held.get(upload_id, ()):
            claim.stop(Ended("the upload has ended"))

    def entered(self, upload_id: str) -> Claim | None:
        """Return the claim of an upload that this process has just entered, or None."""
        held = self._held.get(upload_id)
        return held[0] if held else None

    def holds(self, upload_id: str) -> bool:
        """Say whether this process holds the upload's claim, and with it looks after the key."""
        return upload_id in self._held
