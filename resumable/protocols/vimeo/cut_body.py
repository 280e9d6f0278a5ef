"""A body that ends earlier than its Content-Length says."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from resumable.uploads.registry import Body


class CutBody:
    """The first `size` bytes of a body. What is announced behind them is not waited for."""

    def __init__(self, body: Body, size: int) -> None:
        self._body = body
        self._size = size

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give `size` bytes to `consumer`. Errors as of the body, if it breaks off before."""
        await self._body.pour_into(_Counter(consumer, self._size))


@implementer(IConsumer)
class _Counter:
    """Hands on what comes until enough has come."""

    def __init__(self, consumer: Any, size: int) -> None:
        """:param consumer: an ``IConsumer``, perhaps with the attributes that `StreamingRequest.pour_into` knows."""
        self._consumer = consumer
        self._left = size
        self._producer: Any = None  # an ``IPushProducer``

    @property
    def room(self) -> int:
        """Bytes worth reading at a time."""
        theirs: int | None = getattr(self._consumer, "room", None)
        return max(1, self._left if theirs is None else min(theirs, self._left))

    def backlog(self, size: int) -> None:
        """Tell the consumer how much waits for it."""
        tell = getattr(self._consumer, "backlog", None)
        if tell is not None:
            tell(min(size, self._left))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See ``IConsumer``."""
        self._producer = producer
        self._consumer.registerProducer(producer, streaming)
        if not self._left:
            self._producer.stopProducing()

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._consumer.unregisterProducer()

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        if len(data) > self._left:
            data = data[: self._left]
        if not data:
            return
        self._left -= len(data)
        self._consumer.write(data)
        if not self._left:
            self._producer.stopProducing()
