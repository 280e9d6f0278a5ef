"""Bodies small enough to be looked at as a whole.

Nobody has been asked yet when such a body comes: what the main application is to be asked stands in it. So all of them
together take no more than a fixed amount of memory, whoever sends them. Whoever sends slowly must not keep the others out:
a body has to be complete in time, and where there is no room for another the one that has begun first gives way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from twisted.internet.interfaces import IConsumer, IProducer
from zope.interface import implementer

from resumable.model import TooLarge, Unavailable

#: Bytes of all small bodies that are held at a time.
ALL = 4 * 1024 * 1024
#: Bytes read at a time: most bodies of this kind are smaller, and what a read has room for is taken before it is filled.
READ_SIZE = 16 * 1024
#: The longest (seconds) that such a body may take, however steadily it drips: one sends it as it sends a head.
SECONDS = 20.0


class Pours(Protocol):
    """Where the bytes come from: a request."""

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give everything to `consumer`."""


class SmallBodies:
    """Takes small bodies in, and bounds what all of them hold.

    :ivar held: bytes held now.
    """

    def __init__(self, most: int = ALL) -> None:
        """:param most: bytes that all may hold together."""
        self.held = 0
        self._most = most
        self._unfinished: dict[_SmallBody, None] = {}  # of which something is held; the one that began first leads

    @asynccontextmanager
    async def of(self, request: Pours, limit: int) -> AsyncIterator[bytes]:
        """Give the body of a request; it counts as held until the context ends.

        :param limit: bytes it may have.
        :raises TooLarge: it has more.
        :raises Unavailable: too much is held by others, or it gave way to one of them.
        :raises Interrupted: it broke off, or took too long.
        """
        body = _SmallBody(self, limit)
        try:
            try:
                await request.pour_into(body)
            finally:
                self._unfinished.pop(body, None)
            if len(body.data) > limit:
                raise TooLarge(f"this takes a body of at most {limit} bytes")
            if body.refused:
                raise Unavailable("there are too many requests of this kind at the moment")
            yield bytes(body.data)
        finally:
            self.let_go(body)

    def let_go(self, body: _SmallBody) -> None:
        """Count `body` no longer."""
        self._unfinished.pop(body, None)
        self.held -= body.counted
        body.counted = 0

    def make_room(self, size: int, body: _SmallBody) -> bool:
        """Say whether `body` may hold `size` more bytes: those that have been unfinished for longer give way."""
        while self.held + size > self._most:
            first = next(iter(self._unfinished), body)
            if first is body:
                return False
            first.give_way()
        self._unfinished[body] = None
        self.held += size
        return True


@implementer(IConsumer)
class _SmallBody:
    """Keeps what is poured into it, and stops the pouring where that is too much."""

    #: See `resumable.web.request.StreamingRequest.pour_into`.
    seconds = SECONDS

    def __init__(self, bodies: SmallBodies, limit: int) -> None:
        self.data = bytearray()
        self.counted = 0
        self.refused = False
        self._bodies = bodies
        self._limit = limit
        self._producer: IProducer | None = None

    @property
    def room(self) -> int:
        """Bytes worth reading at a time."""
        return min(READ_SIZE, self._limit + 1 - len(self.data))

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See ``IConsumer``."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """See ``IConsumer``."""
        data = data[: self._limit + 1 - len(self.data)]  # one too many tells
        if self.refused:
            return
        if not self._bodies.make_room(len(data), self):
            self.give_way()
            return
        self.data += data
        self.counted += len(data)
        if len(self.data) > self._limit:
            self._stop()

    def give_way(self) -> None:
        """Let go of everything; whoever wanted the body hears of it."""
        self.refused = True
        self.data = bytearray()
        self._bodies.let_go(self)
        self._stop()

    def _stop(self) -> None:
        if self._producer is not None:
            self._producer.stopProducing()
