"""A body small enough to be looked at as a whole."""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer


@implementer(IConsumer)
class SmallBody:
    """Keeps what is poured into it, and stops the pouring when that grows past a limit."""

    def __init__(self, limit: int) -> None:
        """Take up to ``limit`` bytes."""
        self.chunks: list[bytes] = []
        #: Whether there was more than the limit; the chunks are then not all of it.
        self.overflown = False
        self._room = limit
        self._producer: IProducer | None = None

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See ``IConsumer``."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        self._room -= len(data)
        if self._room >= 0:
            self.chunks.append(data)
        elif self._producer is not None:
            self.overflown = True
            self._producer.stopProducing()
