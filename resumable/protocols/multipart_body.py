"""A body made of several: ``multipart/form-data`` (RFC 7578) and ``multipart/related`` (RFC 2387), read part by part.

::

    async with MultipartBody(request, content_type) as parts:
        async for part in parts:
            if part.name == "file":
                await part.pour_into(consumer)
            else:
                value = await part.read(1024)

A part's consumer has the flow of the whole body in its hands: its pause reaches the socket. While nobody takes a part the
socket is paused as well. What lies in memory meanwhile is what was read of the socket at once; no part is ever held whole,
and nothing is put in a file. A part that nobody took is skipped when the next one is asked for.

What stands before the first boundary and after the closing one is ignored (RFC 2046, 5.1.1). Lines end in CR LF, or all of
them in LF, as google-api-python-client writes them; see `resumable.protocols.multipart_events`.

Who takes a part in is known when its headers have come, and often the main application can only be asked then. So what
lies between the parts that are poured, small parts that are read included, has to come in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from attrs import define
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IProducer, IPushProducer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from zope.interface import implementer

from resumable.model import Interrupted, Invalid, TooLarge, Unsupported
from resumable.protocols.multipart_events import MOST_PARTS, MultipartEvents, PartHead
from resumable.protocols.parameters import read_parameters
from resumable.protocols.small_body import Pours

#: Bytes read at a time while no part is poured.
READ_SIZE = 16 * 1024
#: The longest (seconds) that what lies between two poured parts may take, however steadily it drips.
SECONDS = 20.0

_KINDS = ("multipart/form-data", "multipart/related")


@implementer(IPushProducer)
@define(eq=False)
class Part:
    """One part of a body. It can be poured, or read, once; and only until the next one is asked for."""

    _body: MultipartBody
    _head: PartHead

    @property
    def headers(self) -> Headers:
        """Its own headers."""
        return self._head.headers

    @property
    def name(self) -> str | None:
        """The name in its Content-Disposition, None if there is none."""
        return self._head.name

    @property
    def filename(self) -> str | None:
        """The same of the file name: ``filename*`` where there is one. It may have folders before it."""
        return self._head.filename

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give the part to `consumer`; returns at its end, or early when `consumer` called ``stopProducing``.

        Whatever ``consumer.write`` raises comes out here. An attribute ``room`` and a method ``backlog`` of the
        consumer are used as with a whole body. One with an attribute ``seconds`` takes a small part in: that has to come in
        time, together with what lies before it.

        :raises Interrupted: the body broke off within the part, after all that arrived was given.
        :raises Invalid: the body is malformed; what came before that was given.
        """
        await self._body._pour(self, consumer)

    async def read(self, limit: int) -> bytes:
        """Return all of a small part.

        :param limit: bytes it may have.
        :raises TooLarge: it has more; errors otherwise as `pour_into`.
        """
        reader = _Reader(limit)
        await self.pour_into(reader)
        if len(reader.data) > limit:
            raise TooLarge(f"this part may have at most {limit} bytes")
        return bytes(reader.data)

    def pauseProducing(self) -> None:
        """Stop reading from the client."""
        self._body._set_pause(self, True)

    def resumeProducing(self) -> None:
        """Go on where the pause began."""
        self._body._set_pause(self, False)

    def stopProducing(self) -> None:
        """Skip the rest of the part; `pour_into` just returns."""
        self._body._stop_part(self)


@implementer(IConsumer)
class MultipartBody:
    """The parts of a body, in order; itself what the request pours into."""

    def __init__(
        self,
        body: Pours,
        content_type: str,
        most_parts: int = MOST_PARTS,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        :param body: usually the request. It is poured from the moment on that the first part is asked for.
        :param content_type: the value of its Content-Type.
        :param clock: tells seconds.
        :raises Unsupported: it is neither ``multipart/form-data`` nor ``multipart/related``.
        :raises Invalid: it names no boundary, or one that cannot be.
        """
        kind, parameters = read_parameters(content_type)
        if kind not in _KINDS:
            raise Unsupported("Content-Type", "this takes multipart/form-data or multipart/related")
        if "boundary" not in parameters:
            raise Invalid("Content-Type names no boundary")
        self._body = body
        self._parser = MultipartEvents(parameters["boundary"].encode("utf-8", "backslashreplace"), most_parts)
        self._clock = clock
        self._begun: float | None = None  # when what lies between two poured parts began to be waited for
        self._received = 0
        self._told = 0  # bytes parsed and not handed on yet, as the part's consumer knows them
        # Where the caller is.
        self._current: Part | None = None  # the part whose bytes come next
        self._outlet: IConsumer | None = None  # what it is poured into
        self._poured: Deferred[None] | None = None
        self._small = False  # it is one of those that have to come in time
        self._skips = False  # the rest of the current part is dropped
        self._paused = False  # by the part's consumer
        self._asked: Deferred[Part | None] | None = None  # who waits for the next part
        # The request's side.
        self._producer: Any = None  # an ``IPushProducer``
        self._started = False
        self._holds = False  # the request is paused
        self._ended = False  # it gives no more
        self._failure: Failure | None = None
        self._running = False

    @property
    def past(self) -> int:
        """Bytes of the whole body that lie behind: those of parts that were not taken yet do not."""
        return self._received - self._parser.waiting

    async def __aenter__(self) -> MultipartBody:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._parser.events.clear()
        if self._producer is not None:
            self._producer.stopProducing()

    def __aiter__(self) -> MultipartBody:
        return self

    async def __anext__(self) -> Part:
        part = await self.next_part()
        if part is None:
            raise StopAsyncIteration
        return part

    async def next_part(self) -> Part | None:
        """Return the next part when its headers are in; None when the whole body has ended. Skip what is left of the last.

        :raises Interrupted: the body broke off.
        :raises Invalid: it is malformed, or has too many parts or too long headers.
        """
        if self._asked is not None or self._outlet is not None:
            raise RuntimeError("the part before is still being taken")
        self._skips = True
        if self._begun is None:
            self._begun = self._clock()
        asked = self._asked = Deferred()
        if not self._started:
            self._started = True
            Deferred.fromCoroutine(self._body.pour_into(self)).addCallbacks(self._body_ended, self._body_failed)
        self._run()
        return await asked

    # What a part is asked

    async def _pour(self, part: Part, consumer: IConsumer) -> None:
        if part is not self._current or self._skips or self._outlet is not None:
            raise RuntimeError("this part has been taken, or skipped, already")
        self._paused = False
        self._small = hasattr(consumer, "seconds")
        if not self._small:
            self._begun = None
        consumer.registerProducer(part, True)
        poured = self._poured = Deferred()
        self._outlet = consumer
        self._run()
        try:
            await poured
        finally:
            consumer.unregisterProducer()

    def _set_pause(self, part: Part, paused: bool) -> None:
        if part is self._current and not self._skips:
            self._paused = paused
            self._run()

    def _stop_part(self, part: Part) -> None:
        if part is self._current and self._outlet is not None:
            self._end_pouring(None)
            self._run()

    def _end_pouring(self, failure: Failure | None) -> None:
        """Let the pouring of the current part go on; drop what may be left of the part."""
        poured, self._poured, self._outlet = self._poured, None, None
        self._skips, self._paused, self._told = True, False, 0
        if poured is not None and failure is not None:
            poured.errback(failure)
        elif poured is not None:
            poured.callback(None)

    # IConsumer: the request's body

    @property
    def room(self) -> int | None:
        """Bytes worth reading at a time: what the part's consumer says."""
        return READ_SIZE if self._outlet is None else getattr(self._outlet, "room", None)

    def backlog(self, size: int) -> None:
        """Tell the part's consumer what waits: `size` bytes at the request, and what is here."""
        tell = getattr(self._outlet, "backlog", None)
        if tell is not None:
            tell(size + self._parser.waiting)

    def registerProducer(self, producer: IProducer, streaming: bool) -> None:
        """See ``IConsumer``."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """See ``IConsumer``."""
        self._producer = None

    def write(self, data: bytes) -> None:
        """Parse a segment, and hand on what is in it as far as it is wanted now."""
        self._received += len(data)
        if self._late:
            self._failure = self._failure or Failure(Interrupted("the parts before a file took too long", idle=True))
        if self._failure is None:
            try:
                self._parser.write(data)
            except Invalid:
                self._failure = Failure()
        self._run()

    @property
    def _late(self) -> bool:
        """Whether what lies between poured parts is waited for, and takes too long."""
        waits = self._asked is not None or (self._outlet is not None and self._small)
        return waits and self._begun is not None and self._clock() - self._begun > SECONDS

    def _body_ended(self, _result: None) -> None:
        self._ended = True
        if not self._parser.closed and self._failure is None:
            self._failure = Failure(Invalid("the multipart body ends before its closing boundary"))
        self._run()

    def _body_failed(self, failure: Failure) -> None:
        self._ended = True
        self._failure = self._failure or failure
        self._run()

    # The flow

    def _run(self) -> None:
        """Hand on what was parsed, as far as it is wanted now; then let the request go on, or have it wait."""
        if self._running:
            return
        self._running = True
        try:
            while self._parser.events and self._step():
                pass
            if not self._parser.events and (self._failure is not None or self._ended):
                self._finish()
        finally:
            self._running = False
        self._tell_waiting()
        wanted = (self._outlet is not None and not self._paused) or self._asked is not None
        if self._producer is None:
            return
        if self._failure is not None:
            self._producer.stopProducing()
        elif self._holds and wanted and not self._parser.events:
            self._holds = False
            self._producer.resumeProducing()
        elif not self._holds and not (wanted and not self._parser.events):
            self._holds = True
            self._producer.pauseProducing()

    def _step(self) -> bool:
        """Hand the first event on. Return whether that was possible."""
        event = self._parser.events[0]
        if isinstance(event, bytes):
            if self._outlet is None:
                if not self._skips:
                    return False
                self._parser.events.popleft()
                self._parser.waiting -= len(event)
                return True
            if self._paused:
                return False
            self._parser.events.popleft()
            self._parser.waiting -= len(event)
            try:
                self._outlet.write(event)
            except Exception:
                self._end_pouring(Failure())
            return True
        if isinstance(event, PartHead):
            if self._asked is None:
                return False
            self._parser.events.popleft()
            part = Part(self, event)
            self._current, self._skips = part, False
            asked, self._asked = self._asked, None
            asked.callback(part)
            return True
        # The end does not wait for a consumer that pauses: it may need that end to make room.
        if self._outlet is None and not self._skips:
            return False
        self._parser.events.popleft()
        self._end_pouring(None)
        return True

    def _finish(self) -> None:
        """Tell the end, or what went wrong, to whoever waits."""
        if self._outlet is not None:
            self._end_pouring(self._failure)
        if self._asked is not None:
            asked, self._asked = self._asked, None
            if self._failure is not None:
                asked.errback(self._failure)
            else:
                asked.callback(None)

    def _tell_waiting(self) -> None:
        if self._outlet is not None and self._parser.waiting != self._told:
            self._told = self._parser.waiting
            self.backlog(0)


@implementer(IConsumer)
class _Reader:
    """Keeps a small part, up to one byte more than it may have."""

    #: Says that the part has to come in time.
    seconds = SECONDS

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit
        self._producer: Any = None  # an ``IPushProducer``

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
        self.data += data[: self._limit + 1 - len(self.data)]
        if len(self.data) > self._limit and self._producer is not None:
            self._producer.stopProducing()
