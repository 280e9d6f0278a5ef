"""TLS from clients, read as a plain socket is: so many bytes at a time as are asked for, and none while it is paused.

Twisted's TLS hands on each record of 16 KiB by itself, and hands on whatever has been read even while it is paused. For
bodies of megabytes the way of those records through the channel costs more than decrypting them. Here OpenSSL reads the
socket itself, what it decrypts is collected in one segment of `ClientTls.bufferSize` bytes, and the socket keeps what there
is no room for. Twisted still does the handshake, writes, and closes, by memory BIOs as always: OpenSSL has the socket for
no longer than it takes to fill a segment.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import BufferingTLSTransport
from twisted.python.failure import Failure

from resumable.clock import cancel_if_active
from resumable.stores.transport.openssl import RECORD, Segment, reads_sockets

log = Logger()

#: Encrypted bytes that are read at once where OpenSSL cannot read the socket itself. They stay in the processor's cache until
#: they are decrypted, and OpenSSL keeps a buffer as large for the connection.
PIECE = 128 * 1024
#: The bytes by which a record is longer than its content, at most (RFC 8446, 5.2: 5 + 256; padding not counted).
OVERHEAD = 261
#: Encrypted bytes that are read before anything is known about the client.
HANDSHAKE = 16 * 1024

#: What was read from a socket, until OpenSSL has it. One buffer for the process.
_encrypted = memoryview(bytearray(PIECE))


class ClientTls(BufferingTLSTransport):
    """A TLS connection of a client.

    :ivar bufferSize: the most bytes that are handed on at once (the name is that of Twisted's sockets).
    """

    transport: Any
    bufferSize = RECORD
    _paused = False
    #: Why TLS has ended. It is told when all that came before has been taken.
    _ending: Exception | None = None
    #: A turn that is due, because something may be left with OpenSSL of which the socket knows nothing.
    _turn: Any = None
    #: Whether OpenSSL may hold what could be handed on: a segment was full, TLS has ended, or something came in a pause.
    _more = False
    #: Why the socket is lost, once it is.
    _lost: Any = None
    #: Whether the socket is read here, and whether the end is being told.
    _reads = _last = False

    def makeConnection(self, transport: Any) -> None:
        """Begin (called by Twisted)."""
        transport.bufferSize = HANDSHAKE
        super().makeConnection(transport)

    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()
        socket = self.transport
        # A socket of another kind, or a connection in memory, is read in its own way.
        if self._handshakeDone and getattr(type(socket), "doRead", None) is Connection.doRead and not socket.TLS:
            socket.doRead, self._reads = self._read, True

    # The flow

    def pauseProducing(self) -> None:
        """Hand on nothing until `resumeProducing`."""
        self._paused = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on, in a later turn of the reactor."""
        self._paused = False
        self.transport.resumeProducing()
        self._go_on_later()

    def loseConnection(self) -> None:
        """Close the connection with a close_notify. Its answer may be there already, behind what nobody wants."""
        super().loseConnection()
        self._go_on_later()

    def _go_on_later(self) -> None:
        """See to what OpenSSL may still hold. The socket is not readable because of that."""
        if self._turn is None and self._more and not (self._lostTLSConnection or self._last):
            self._turn = self.factory._clock.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._turn = None
        if self._lostTLSConnection or (self._paused and not self.disconnecting):
            return
        # With what the socket has the segment is a large one again.
        socket = self.transport.socket if self._reads and not self._paused and self.transport.connected else None
        try:
            # Whether the socket is lost it will say again.
            self._take(socket)
        except Exception:
            log.failure("a connection over TLS cannot go on")
            self.abortConnection()

    def _read(self) -> Any:
        """Read, in place of the socket's ``doRead``. Return why the connection is lost, or None."""
        if self._paused or self._lostTLSConnection:  # since the reactor has looked at its sockets
            return None
        return self._take(self.transport.socket)

    def _take(self, socket: Any) -> Any:
        """Decrypt, and hand on one segment.

        :param socket: what to read from, where what OpenSSL holds is not enough; None: nothing.

        Return why the connection is lost, or None. As with a plain socket that is not told together with the last bytes.
        """
        segment = Segment(self._tlsConnection, max(self.bufferSize, 1))
        lost = self._fill(segment, socket)
        filled = segment.filled
        self._more = segment.full or self._ending is not None
        if filled and not self._aborted:
            ProtocolWrapper.dataReceived(self, segment.take())
        if self._lostTLSConnection:
            return None
        if not filled and self._ending is not None:
            self._end()
            return None
        # OpenSSL may have something to say too, about new keys for example.
        self._flushSendBIO()
        if not self._paused:
            self._go_on_later()
        return None if filled else lost

    def _fill(self, segment: Segment, socket: Any) -> Any:
        """Fill the segment from what OpenSSL holds, and then from the socket; return why the latter is lost, or None."""
        if self._ending is not None or (self._lost is not None and socket is not None):
            return self._lost
        try:
            if segment.fill() or socket is None:
                return None
            if segment.direct and not self._writing and reads_sockets(self._tlsConnection):
                self._fill_from(segment, socket)
            else:
                self._fill_by_memory(segment, socket)
        except SSL.Error as error:
            self._ending = error.with_traceback(None)
        return self._lost

    def _fill_from(self, segment: Segment, socket: Any) -> None:
        """Have OpenSSL read the socket."""
        try:
            if not segment.fill_from(socket.fileno()):
                # What it could not write to the socket, it writes to memory now.
                segment.fill()
        except SSL.SysCallError:
            self._lost = main.CONNECTION_LOST

    def _fill_by_memory(self, segment: Segment, socket: Any) -> None:
        """Read the socket for OpenSSL."""
        # Records may be empty, or about TLS itself.
        left = segment.size + segment.size // 8 + PIECE
        while not segment.fill() and left > 0:
            room = segment.size - segment.filled
            asked = min(PIECE, room + OVERHEAD * (1 + room // RECORD))
            try:
                count = socket.recv_into(_encrypted[:asked])
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._lost = main.CONNECTION_LOST
                return
            if not count:
                self._lost = main.CONNECTION_DONE
                return
            self._tlsConnection.bio_write(_encrypted[:count])
            left -= count
            if self._appSendBuffer:
                self._unbufferPendingWrites()
            if count < asked:
                segment.fill()
                return

    @property
    def _writing(self) -> bool:
        """Whether something is still to be written to the socket."""
        socket = self.transport
        return bool(self._appSendBuffer or socket._tempDataBuffer or socket.offset < len(socket.dataBuffer))

    def _end(self) -> None:
        """Do what Twisted does at the end of TLS."""
        ending, self._ending = self._ending, None
        if isinstance(ending, SSL.ZeroReturnError):
            self._shutdownTLS()
            self._tlsShutdownFinished(None)
        else:
            self._tlsShutdownFinished(Failure(ending))

    def _flushReceiveBIO(self) -> None:
        """Hand on what has been decrypted (called by Twisted, when it has given OpenSSL something, and at the end)."""
        if self._paused and not self._last:
            self._more = True
            self._flushSendBIO()  # the end of the handshake, for example
            return
        while not self._lostTLSConnection and (self._last or not self._paused):
            self._take(None)
            if not self._more:
                break

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hand on what is still there, and tell the end (called by Twisted)."""
        self._last = True
        cancel_if_active(self._turn)
        if self._reads:
            del self.transport.doRead
        super().connectionLost(reason)
