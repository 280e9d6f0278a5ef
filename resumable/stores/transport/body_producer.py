"""A request's body as a list of segments, written as Twisted does it or handed to `transport.sending`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer


@implementer(IBodyProducer)
class ChunksProducer:
    """Writes segments one by one, without a copy, and forgets each when it is written.

    It has to be empty whenever the request ends. Twisted keeps a finished request, and with it this producer, in
    reference cycles until the garbage collector runs.
    """

    def __init__(self, chunks: Iterable[bytes], length: int, clock: Any) -> None:
        self.length = length
        self.finished = False
        #: When the connection last took something (seconds, by the clock).
        self.moved = clock.seconds()
        self._clock = clock
        self._left: deque[bytes] = deque(chunks)
        self._stop: Callable[[], None] | None = None
        self._consumer: IConsumer | None = None
        self._done: Deferred[None] | None = None
        self._paused = self._busy = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        """Begin to write. The Deferred fires when everything is written."""
        self._consumer = consumer
        done = self._done = Deferred(lambda _: self.stopProducing())
        self._pump()
        return done

    def _pump(self) -> None:
        # The consumer's write() may call pauseProducing and resumeProducing.
        if self._busy or self._consumer is None:
            return
        self._busy = True
        self.touch()
        while self._left and not self._paused:
            self._consumer.write(self._left.popleft())
        self._busy = False
        if not self._left and self._done is not None:
            done = self._done
            self.finished = True
            self._consumer = self._done = None
            done.callback(None)

    def hand_over(self, stop: Callable[[], None]) -> deque[bytes]:
        """Hand over the segments, in place of `startProducing`.

        The caller sends them, and reports by `touch` and `end`.

        :param stop: called once, if nobody wants the rest any more.
        """
        self._stop = stop
        left, self._left = self._left, deque()
        return left

    def touch(self) -> None:
        """Note that the connection has taken something."""
        self.moved = self._clock.seconds()

    def end(self) -> None:
        """Note that everything that was handed over has been sent."""
        self.finished = True
        self._stop = None

    def pauseProducing(self) -> None:
        """Stop writing for now: the connection has enough."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on writing: the connection wants more."""
        self._paused = False
        self._pump()

    def stopProducing(self) -> None:
        """Forget the rest, which nobody wants. Twisted calls this twice if the connection is reset."""
        self._left.clear()
        self._consumer = self._done = None
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
