"""Calls of the store: each tried, with growing pauses, until it is done, refused, or patience is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen
from twisted.internet.task import deferLater

from resumable.stores.addressing import Addressing
from resumable.stores.answers import EXPIRED, Answers, Trouble
from resumable.stores.signing import NoCredentials, Signer
from resumable.stores.store import StoreError, StoreUnavailable
from resumable.stores.transport import ANSWER, ANSWER_LIMIT, Answer, Transport

#: Seconds: the most that the first pause can be (it doubles from there), and the most that any can be.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0


@define
class Call:
    """A request to be made, as often as it takes.

    :ivar query: percent-encoded; every name has an ``=``.
    :ivar reads: whether the answer's body is to be read by S3's model.
    :ivar answer: seconds until the answer has to begin.
    :ivar limit: bytes of the answer's body, or None for whatever comes.
    :ivar passing: codes that, for this operation, may pass.
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
    limit: int | None = ANSWER_LIMIT
    passing: frozenset[str] = frozenset()


@frozen
class Reply:
    """A successful answer, and its body's fields where they were asked for."""

    answer: Answer
    fields: Mapping[str, Any]


#: Told of every try: operation, ``ok`` or an error code, seconds.
Observer = Callable[[str, str, float], None]


class Calls:
    """Makes calls: full-jitter exponential back-off, as AWS recommends it.

    :param patience: seconds for which what may pass is tried again.
    :param random: a number from 0 to 1.
    :param pauses: the first and the longest pause (seconds) before chance shortens them.
    """

    def __init__(
        self,
        clock: Any,
        transport: Transport,
        signer: Signer,
        addressing: Addressing,
        answers: Answers,
        *,
        patience: float,
        random: Callable[[], float],
        observe: Observer | None = None,
        retried: Callable[[str], None] | None = None,
        pauses: tuple[float, float] = (FIRST_PAUSE, LONGEST_PAUSE),
    ) -> None:
        self._clock = clock
        self._transport = transport
        self._signer = signer
        self._addressing = addressing
        self._answers = answers
        self._patience = patience
        self._random = random
        self._observe = observe
        self._retried = retried
        self._first_pause, self._longest_pause = pauses

    async def make(self, call: Call, *, patience: float | None = None) -> Reply:
        """Make the call; cancelled, it ends in the middle.

        :param patience: for this call, if not the usual.
        :raises StoreError: the store refuses.
        :raises StoreUnavailable: patience is over, or the credentials are.
        """
        deadline = self._clock.seconds() + (self._patience if patience is None else patience)
        replaced, bound = False, self._first_pause
        try:
            while True:
                outcome = await self._try(call)
                if isinstance(outcome, Reply):
                    return outcome
                if outcome.code in EXPIRED:
                    if replaced or not await self._replace_credentials():
                        raise StoreUnavailable(outcome.code, outcome.message, outcome.status)
                    replaced = True
                    self._again(call)
                    continue
                if not outcome.transient and outcome.code not in call.passing:
                    raise StoreError(outcome.code, outcome.message, outcome.status)
                pause = max(self._random() * bound, outcome.pause)
                if self._clock.seconds() + pause > deadline:
                    raise StoreUnavailable(outcome.code, outcome.message, outcome.status)
                await deferLater(self._clock, pause)
                self._again(call)
                bound = min(2 * bound, self._longest_pause)
        finally:
            # Whoever keeps an error, whose traceback leads here, keeps no body.
            call.body = ()

    def _again(self, call: Call) -> None:
        if self._retried is not None:
            self._retried(call.operation)

    async def _replace_credentials(self) -> bool:
        try:
            return await self._signer.replace()
        except NoCredentials:
            return False

    async def _try(self, call: Call) -> Reply | Trouble:
        started = self._clock.seconds()
        outcome = await self._exchange(call)
        if self._observe is not None:
            code = outcome.code if isinstance(outcome, Trouble) else "ok"
            self._observe(call.operation, code, self._clock.seconds() - started)
        return outcome

    async def _exchange(self, call: Call) -> Reply | Trouble:
        try:
            await self._signer.ready()
        except NoCredentials as error:
            return Trouble("NoCredentials", str(error))
        base = await self._addressing.base(call.bucket)
        path = base.prefix if call.key is None else f"{base.prefix}/{quote(call.key, safe='/~')}"
        target = f"{path or '/'}?{call.query}" if call.query else path or "/"
        url = f"{base.scheme}://{base.authority}{target}"
        headers = self._signer.sign(call.method, url, {"Host": base.authority, **call.headers})
        answer = await self._transport.request(
            base, call.method, target, headers, call.body, answer=call.answer, limit=call.limit
        )
        if not isinstance(answer, Answer):
            return Trouble(answer.code, answer.message)
        if not 200 <= answer.status < 300:
            return self._answers.refusal(answer)
        if not call.reads:
            return Reply(answer, {})
        fields = await self._answers.read(call.operation, answer)
        return fields if isinstance(fields, Trouble) else Reply(answer, fields)
