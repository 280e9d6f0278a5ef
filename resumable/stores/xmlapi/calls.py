"""Calls of the store. Each is tried, with growing pauses, until it is done or refused, or patience runs out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet.defer import CancelledError

from resumable.backoff import Backoff
from resumable.outages import Reports
from resumable.stores.port import Fence, Misconfigured, Observer, StoreUnavailable
from resumable.stores.transport.base import Base
from resumable.stores.transport.exchange import ANSWER, ANSWER_LIMIT, TOO_LONG, Answer, CutOff
from resumable.stores.transport.pool import Transport
from resumable.stores.transport.proxies import BadProxy
from resumable.stores.transport.retry import FailedTry, Next, Retrying
from resumable.stores.xmlapi.answers import Answers, CallFailure, plain
from resumable.stores.xmlapi.codes import OF_ONE_REQUEST, Codes
from resumable.stores.xmlapi.credentials import CannotSign, Credentials, NoCredentials

#: Seconds: the longest first pause (the limit doubles from there), and the longest pause of all.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
#: How many answers to a `Call.once` may be lost before it is given up, since each such try may have left something
#: behind.
LOST = 2


class Bases(Protocol):
    """Knows where each bucket is."""

    async def base(self, bucket: str) -> Base:
        """Return the bucket's base.

        :raises BadProxy: what the environment names as its proxy cannot be one.
        """


@frozen
class Reply:
    """A successful answer, with its body's fields if they were asked for."""

    answer: Answer
    fields: Mapping[str, Any]


@define
class Call:
    """A request that is tried as often as it takes.

    :ivar query: percent-encoded; every name has an ``=``.
    :ivar reads: whether the answer's body is to be parsed with S3's model.
    :ivar answer: seconds within which the answer has to begin.
    :ivar limit: the most bytes of the answer's body.
    :ivar framed: whether the answer's body has to tell its own length. One that ends with the connection then counts as
        lost.
    :ivar passing: error codes that, for this operation, may pass.
    :ivar bare: statuses that, without an error document, are raised at once, for the caller to find out what is meant.
    :ivar once: whether it does harm to repeat a try that succeeded although its answer was lost. Then that is not done
        often.
    :ivar blank: what a successful answer without a body means, if that is not what was asked for.
    :ivar check: returns what is wrong with a successful answer after all, or None.
    :ivar path: what follows the bucket's base in the URL, percent-encoded, in place of the key.
    :ivar sent: whether the store has the whole request of the last try.
    """

    operation: str
    method: str
    bucket: str
    key: str | None = None
    query: str = ""
    headers: Mapping[str, str] = field(factory=dict)
    body: Sequence[bytes] = ()
    reads: bool = False
    answer: float = ANSWER
    limit: int = ANSWER_LIMIT
    framed: bool = False
    passing: frozenset[str] = frozenset()
    bare: frozenset[int] = frozenset()
    once: bool = False
    blank: CallFailure | None = None
    check: Callable[[Reply], CallFailure | None] | None = None
    path: str | None = None
    sent: bool = False


class Calls:
    """Makes calls, with the exponential back-off and full jitter that AWS recommends.

    :param patience: seconds for which a call is tried again after trouble that may pass.
    :param random: returns a number from 0 to 1.
    :param pauses: the limits of the first and of the longest pause (seconds), before chance shortens them.
    """

    def __init__(
        self,
        clock: Any,
        transport: Transport,
        signer: Credentials,
        addressing: Bases,
        answers: Answers,
        codes: Codes,
        *,
        patience: float,
        random: Callable[[], float],
        observe: Observer | None = None,
        reports: Reports | None = None,
        retried: Callable[[str], None] | None = None,
        pauses: tuple[float, float],
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._signer = signer
        self._addressing = addressing
        self._answers = answers
        self.codes = codes
        self._patience = patience
        self._observe = observe
        self._reports = reports
        self._retried = retried
        self._backoff = Backoff(*pauses, jitter=(0.0, 1.0), random=random)

    async def make(
        self, call: Call, *, patience: float | None = None, fence: Fence | None = None, again: bool = False
    ) -> Reply:
        """Make the call. If cancelled, it stops in the middle of a try.

        :param patience: seconds, in place of the usual patience.
        :param fence: asked before each try but the first. It waits between tries, and is told of tries that may still
            take effect.
        :param again: whether an earlier call has already tried the same.
        :raises StoreError: the store refuses.
        :raises StoreUnavailable: patience ran out, or there are no valid credentials.
        """
        judging = _Judging(self, call)
        retrying: Retrying[Reply] = Retrying(
            self._clock,
            self._backoff,
            attempt=lambda: self._doubting(call, fence),
            judge=judging,
            retried=lambda: self._again(call),
        )
        try:
            return await retrying.run(
                patience=self._patience if patience is None else patience, fence=fence, again=again
            )
        except Misconfigured as error:
            error.needs = self.codes.needed(call.operation, error)
            raise
        finally:
            # Somebody may keep an error whose traceback leads here. That must not keep the body.
            call.body = ()

    async def presign(self, bucket: str, key: str, seconds: int) -> str:
        """Return a URL that is its own permission to GET an object. Nothing is sent.

        :param seconds: how long it is valid, at most.
        :raises StoreUnavailable: there are no valid credentials.
        :raises Misconfigured: the credentials cannot sign, or the bucket's address cannot be told.
        """
        try:
            await self._signer.ready()
            base = await self._addressing.base(bucket)
            url = f"{base.scheme}://{base.authority}{path_of(base, key)}"
            return await self._signer.presigned("GET", url, seconds)
        except CannotSign as error:
            raise Misconfigured("CannotSign", plain(str(error))) from None
        except NoCredentials as error:
            raise StoreUnavailable("NoCredentials", plain(str(error))) from None
        except BadProxy as error:
            raise Misconfigured("BadProxy", str(error), everybody=True) from None

    def _again(self, call: Call) -> None:
        if self._retried is not None:
            self._retried(call.operation)

    async def replace_credentials(self, call: Call, trouble: CallFailure) -> bool:
        """Look for new credentials if these are refused; return whether there may be others now."""
        # The answer to a HEAD has no document that could say so.
        hidden = call.method == "HEAD" and trouble.status in self.codes.hidden
        if not hidden and not self._refuses_credentials(trouble):
            return False
        try:
            return await self._signer.replace(guess=hidden)
        except NoCredentials:
            return False

    def _refuses_credentials(self, trouble: CallFailure) -> bool:
        rejected = trouble.said and trouble.code in self.codes.rejected
        return rejected or trouble.status in self.codes.unauthorized or trouble.code in self.codes.expired

    def note_replaced_in_vain(self, trouble: CallFailure) -> None:
        """Let the credentials know if those that were found are refused as well."""
        if self._refuses_credentials(trouble):
            self._signer.refused_again()

    async def _doubting(self, call: Call, fence: Fence | None) -> Reply | CallFailure:
        """Try once. Tell the fence if the store has the whole request but has not said what came of it."""
        call.sent = False
        try:
            outcome = await self._try(call)
        except CancelledError:
            if fence is not None and call.sent:
                fence.doubt()
            raise
        if fence is not None and call.sent and isinstance(outcome, CallFailure) and not outcome.definite:
            fence.doubt()
        return outcome

    async def _try(self, call: Call) -> Reply | CallFailure:
        started = self._clock.seconds()
        outcome = await self._exchange(call)
        if self._observe is not None:
            code = outcome.code if isinstance(outcome, CallFailure) else "ok"
            self._observe(call.operation, code, self._clock.seconds() - started)
        if self._reports is not None:
            if not isinstance(outcome, CallFailure):
                self._reports.worked()
            elif outcome.transient and outcome.code not in OF_ONE_REQUEST:
                self._reports.failed(f"{outcome.code} to {call.operation}")
            elif outcome.said:
                self._reports.worked()
        return outcome

    async def _exchange(self, call: Call) -> Reply | CallFailure:
        try:
            await self._signer.ready()
        except NoCredentials as error:
            return CallFailure("NoCredentials", plain(str(error)))
        try:
            base = await self._addressing.base(call.bucket)
        except BadProxy as error:
            return CallFailure("BadProxy", str(error), transient=False)
        path = path_of(base, call.key) if call.path is None else base.prefix + call.path
        target = f"{path}?{call.query}" if call.query else path
        url = f"{base.scheme}://{base.authority}{target}"
        headers = self._signer.sign(call.method, url, {"Host": base.authority, **call.headers})
        try:
            answer = await self._transport.request(
                base,
                call.method,
                target,
                headers,
                call.body,
                answer=call.answer,
                limit=call.limit,
                framed=call.framed,
            )
        except CutOff as cut:
            call.sent = cut.sent
            raise
        call.sent = answer.sent
        if not isinstance(answer, Answer):
            # An object that is too long will be too long the next time as well.
            final = answer.code == TOO_LONG and call.operation == "GetObject"
            return CallFailure(answer.code, plain(answer.message), transient=not final)
        if not 200 <= answer.status < 300:
            return self._answers.refusal(answer)
        # Without a length, what looks empty may be an answer that was cut short.
        if call.blank is not None and answer.framed and not any(answer.segments):
            return call.blank
        fields = await self._answers.read(call.operation, answer) if call.reads else {}
        if isinstance(fields, CallFailure):
            return fields
        reply = Reply(answer, fields)
        wrong = call.check(reply) if call.check is not None else None
        return wrong or reply


def path_of(base: Base, key: str | None) -> str:
    """Return the path of an object, or of its bucket if the key is None, percent-encoded as it is signed and sent."""
    return (base.prefix if key is None else f"{base.prefix}/{quote(key, safe='/~')}") or "/"


class _Judging:
    """Says what follows a try of one call that came to nothing: what the store's codes mean for that."""

    def __init__(self, calls: Calls, call: Call) -> None:
        self._calls = calls
        self._call = call
        self._replaced = False  # the credentials, once
        self._lost = 0

    async def __call__(self, failure: FailedTry) -> Next:
        assert isinstance(failure, CallFailure)
        call = self._call
        if self._replaced:
            self._calls.note_replaced_in_vain(failure)
        elif await self._calls.replace_credentials(call, failure):
            self._replaced = True
            return Next.AT_ONCE
        if failure.code in self._calls.codes.expired:
            return Next.UNAVAILABLE
        bare = failure.status in call.bare and not failure.said
        if bare or not (failure.transient or failure.code in call.passing):
            return Next.REFUSED
        if failure.lost and call.sent:
            self._lost += 1
        return Next.UNAVAILABLE if call.once and self._lost >= LOST else Next.LATER
