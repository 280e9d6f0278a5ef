"""A request's body, read piece by piece as fast as the connection takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from resumable.client.limiter import MOST, Limiter
from resumable.client.sources import READ, Source


@implementer(IBodyProducer)
class Body:
    """The range ``[first, end)`` of a source, as a push producer. At most `READ` bytes of it are in memory.

    :ivar length: bytes of the range.
    :ivar sent: bytes that were handed to the connection.
    :ivar moved: when the connection last took something (seconds, by the clock).
    :ivar failure: why it could not be read, if so.
    """

    def __init__(
        self,
        source: Source,
        first: int,
        end: int,
        clock: Any,
        limiter: Limiter | None,
        sent: Callable[[int], object],
    ) -> None:
        """
        :param sent: called with a number of bytes whenever so many were handed to the connection.
        """
        self.length = end - first
        self.sent = 0
        self.moved = clock.seconds()
        self.finished = False
        self.failure: Failure | None = None
        self._source = source
        self._first = first
        self._clock = clock
        self._limiter = limiter
        self._tell = sent
        self._stopped = self._paused = False
        self._waiting: Deferred[None] | None = None
        self._consumer: IConsumer | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin to write. The Deferred fires when everything is written, and not at all after `stopProducing`."""
        self._consumer = consumer
        self.moved = self._clock.seconds()
        done: Deferred[None] = Deferred(lambda _: self.stopProducing())

        def ended(outcome: Any) -> None:
            if isinstance(outcome, Failure):
                self.failure = outcome
            if not self._stopped:
                done.callback(outcome)

        Deferred.fromCoroutine(self._produce()).addBoth(ended)
        return done

    async def _produce(self) -> None:
        block = MOST if self._limiter is None else self._limiter.most
        while self.sent < self.length and not self._stopped:
            size = min(READ if self._limiter is None else block, self.length - self.sent)
            for data in await self._source.read(self._first + self.sent, size, block):
                if self._limiter is not None:
                    await self._limiter.take(len(data))
                    self.moved = self._clock.seconds()
                while self._paused and not self._stopped:
                    self._waiting = Deferred()
                    await self._waiting
                if self._stopped or self._consumer is None:
                    return
                self.sent += len(data)
                # The last write may end the request at once.
                self.finished = self.sent == self.length
                self.moved = self._clock.seconds()
                self._consumer.write(data)
                self._tell(len(data))

    def pauseProducing(self) -> None:
        """Stop writing for now: the connection has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on writing: the connection wants more."""
        self._paused = False
        self.moved = self._clock.seconds()
        self._go_on()

    def stopProducing(self) -> None:
        """Stop: nobody wants the rest."""
        self._stopped = True
        self._consumer = None
        self._go_on()

    def _go_on(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)
