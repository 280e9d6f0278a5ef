"""Whether a connection is read, and how much of it at a time.

The socket is read unless there is a reason not to. Each reason is a flag of its own, as any of them may hold at the
same time, and `_read_on` looks at all of them: a request does not want its body now (`_held`), the decoder has not come to
what was read (`_behind`), more was read than the request that is served (`_ahead`), the client does not read its answers
(`_waitingForTransport`, our base's), or it sends no more (`_last_said`).
"""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import ProtocolWrapper

from resumable.web.chunked import ChunkedDecoder
from resumable.web.low_water import LowWater, LowWaters
from resumable.web.read_size import ReadSize
from resumable.web.refusals import RefusingChannel
from resumable.web.tls import ClientTls

#: Bytes asked at a time of a socket under Twisted's TLS, which hands on 16 KiB at a time whatever it is given.
TLS_READ_SIZE = 256 * 1024

#: As long as nobody has asked for the body: what comes with the head lies in memory uncounted while the application and
#: the ledger are asked, on every connection at once.
HEAD_READ_SIZE = 16 * 1024


class ReadChannel(RefusingChannel):
    """An HTTP channel that is read only while nothing speaks against it."""

    #: True when nothing that still arrives is looked at.
    deaf = False
    _patience: float | None = None  # the idle timeout (seconds) that stands still while `_held`
    # Why the socket is not read; see above.
    _held = False
    _behind = False
    _ahead = False
    _last_said = False
    _low_water: LowWater | None = None

    def _find_socket(self, low_waters: LowWaters) -> None:
        """Find what is read, once the connection is made, and read little until a body is wanted."""
        innermost: Any = self.transport
        # Under Twisted's own TLS only the socket has a read size.
        while isinstance(innermost, ProtocolWrapper) and not isinstance(innermost, ClientTls):
            innermost = innermost.transport
        self._socket = innermost
        self._reading = ReadSize() if innermost is self.transport else None
        innermost.bufferSize = HEAD_READ_SIZE
        self._low_water = low_waters.of(innermost.transport if isinstance(innermost, ClientTls) else innermost)

    def hold(self) -> None:
        """Read no more until ``release``. The idle timer stands still: this silence is ours."""
        if not self._held and not self.deaf:
            self._held = True
            self._patience = self.setTimeout(None)
            self._networkProducer.pauseProducing()

    def release(self, room: int | None = None) -> None:
        """Read on, in large pieces but no more than ``room`` bytes at once: somebody takes them."""
        size = TLS_READ_SIZE if self._reading is None else self._reading.size
        decoder, left = self._transferDecoder, 0
        if type(decoder) is ChunkedDecoder:
            most = decoder.read_size
        else:
            # What follows the body would lie in memory, uncounted, until the answer. (TLS needs more than it hands on.)
            left = 0 if decoder is None else decoder.contentLength
            most = (left or 1) if self._reading is not None else left + HEAD_READ_SIZE
        if most < size:
            size = most
        if room is not None and room < size:
            size = room
        self._socket.bufferSize = size
        if self._low_water is not None:
            self._low_water.read_on(left, size)
        if self._held:
            self._held = False
            self.setTimeout(self._patience)
            self._read_on()

    def _read_on(self) -> None:
        self._ahead = self._has_more
        if not (self._held or self._behind or self._ahead or self._waitingForTransport or self._last_said):
            self._networkProducer.resumeProducing()

    def _stall(self, behind: bool) -> None:
        """Read no more until what was read is decoded: it takes more than this turn of the reactor.

        :param behind: False when it is decoded.
        """
        self._behind = behind
        if behind:
            self._networkProducer.pauseProducing()
        else:
            self._read_on()

    @property
    def _has_more(self) -> bool:
        """Whether more than the request that is served has been read."""
        return bool(self.paused and self._buffer)

    def _watch_read_ahead(self) -> None:
        """Read no more while something is left of what was read."""
        if self._has_more != self._ahead:
            if self._ahead:
                self._read_on()
            else:
                self._ahead = True
                self._networkProducer.pauseProducing()
