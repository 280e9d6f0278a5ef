"""TLS to the store: whole segments go into OpenSSL, and large pieces of what it makes of them to the kernel.

Twisted's TLS hands 16 KiB to OpenSSL at a time, takes them out again, and sends 128 KiB in each round of the reactor.
For bodies of megabytes that costs more than encrypting them. Here Twisted still does the handshake, reads, and closes.
Only the body of a request is written in another way, where the connection below is a plain socket.

OpenSSL does not write to the socket itself. It would make a system call for each record of 16 KiB, and that costs more than
the two copies in memory (0.83 to 0.92 against 0.71 to 0.78 CPU seconds for a GiB, measured alone). Pieces below 128 KiB cost
more, those above 256 KiB leave the processor's cache.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from OpenSSL import SSL
from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IProtocol, IProtocolFactory
from twisted.internet.interfaces import IStreamClientEndpoint as Endpoint
from twisted.internet.protocol import connectionDone
from twisted.internet.tcp import Connection
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from resumable.stores.transport.body_producer import ChunksProducer
from resumable.stores.transport.openssl import RECORD, read_encrypted, write_whole

#: Bytes that are encrypted ahead of the kernel: for a connection at most and at least, and for all that send, as long
#: as the least is enough for each.
MOST_AHEAD = 256 * 1024
LEAST_AHEAD = 2 * RECORD
ALL_AHEAD = 4 * 1024 * 1024
#: Segments with fewer bytes are joined up to a record, since each record costs some 30 bytes and a call.
SMALL = 4 * 1024
#: Pieces sent in one round of the reactor, so that a fast socket leaves other connections their turn.
MOST_CALLS = 8

_NOTHING = memoryview(b"")


@implementer(Endpoint)
class TlsEndpoint:
    """The endpoint with TLS inside. A new connection resumes the session of an earlier one, if the store allows it.

    A resumed session does not show the certificate again. It is only ever used for the same host and port, for which
    the certificate was verified when the session began.
    """

    def __init__(self, endpoint: Endpoint, creator: IOpenSSLClientConnectionCreator) -> None:
        self._endpoint = endpoint
        self._creator = creator
        #: The session to resume.
        self.session: SSL.Session | None = None

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect. The handshake goes on afterwards."""
        connected: Deferred[Any] = self._endpoint.connect(_TlsFactory(self, self._creator, protocolFactory))
        return connected.addCallback(lambda tls: tls.wrappedProtocol)


class StoreTls(TLSMemoryBIOProtocol):
    """A TLS connection to the store.

    :ivar sending: what writes a body at present.
    """

    factory: _TlsFactory
    transport: Any
    sending: TlsSending | None = None
    _close_when_sent = _session_kept = False

    @property
    def takes_segments(self) -> bool:
        """Whether a body can be sent by `TlsSending`: the connection below is a plain socket."""
        socket = self.transport
        return (
            isinstance(socket, Connection) and not socket.TLS and self.sending is None and not self._lostTLSConnection
        )

    @property
    def ready(self) -> bool:
        """Whether the handshake is done."""
        return self._handshakeDone

    @property
    def engine(self) -> Any:
        """OpenSSL's connection, which encrypts."""
        return self._tlsConnection

    def fail(self) -> None:
        """End the connection because of the present exception, which comes from OpenSSL."""
        self._tlsShutdownFinished(Failure())

    def sent(self) -> None:
        """Note that nothing is being sent any more."""
        self.sending = None
        if self._close_when_sent:
            self.loseConnection()

    def _checkHandshakeStatus(self) -> None:
        super()._checkHandshakeStatus()  # type: ignore[no-untyped-call]
        if self._handshakeDone and self.sending is not None:
            self.sending.begin()

    def dataReceived(self, data: bytes) -> None:
        """Take encrypted bytes (called by Twisted). They may be what OpenSSL waits for before it encrypts more."""
        ready = self._handshakeDone
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        if ready and not self._session_kept and not self._lostTLSConnection:
            # In TLS 1.3 the tickets come after the handshake, and before the first answer.
            self._session_kept = True
            self._keep_session()
        if self.sending is not None:
            self.sending.wake()

    def _keep_session(self) -> None:
        if self._tlsConnection is not None:
            self.factory.endpoint.session = self._tlsConnection.get_session()

    def _flushSendBIO(self) -> None:
        # What is encrypted has to stay in order: while a body is sent, all goes the same way.
        if self.sending is not None and self.sending.begun:
            self.sending.wake()
        else:
            super()._flushSendBIO()  # type: ignore[no-untyped-call]

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        if not self._handshakeDone:
            self.factory.endpoint.session = None
        sending = self.sending
        broken = sending is not None and sending.begun
        if broken and reason is None and self._reason is None:
            # The store says goodbye in the middle of a body.
            self._reason = Failure(main.CONNECTION_LOST)
        if sending is not None:
            sending.release()
        super()._tlsShutdownFinished(reason)  # type: ignore[no-untyped-call]
        if broken:
            # Half a record may have been sent, and nobody reads the rest.
            self.transport.abortConnection()

    def loseConnection(self) -> None:
        """Close the connection with a close_notify, after the body that is being sent."""
        if self.sending is not None and self.sending.begun:
            self._close_when_sent = True
        else:
            super().loseConnection()  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Pass on why the connection has ended (called by Twisted)."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        if self.sending is not None:
            self.sending.release()


class _TlsFactory(TLSMemoryBIOFactory):
    """Makes one `StoreTls`."""

    protocol = StoreTls

    def __init__(
        self, endpoint: TlsEndpoint, creator: IOpenSSLClientConnectionCreator, wrapped: IProtocolFactory
    ) -> None:
        super().__init__(creator, True, wrapped)
        self.endpoint = endpoint
        self._create, self._creatorCallable = self._creatorCallable, self._prepared

    def _prepared(self, tls: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection: SSL.Connection = self._create(tls)
        write_whole(connection)
        session = self.endpoint.session
        if session is not None:
            try:
                connection.set_session(session)
            except ValueError:
                # The policy makes a new context for each connection, and sessions belong to contexts.
                self.endpoint.session = None
        return connection


class TlsSending:
    """Encrypts and writes in place of the transports until the body is sent.

    It learns of the end of the connection from the producer, which Twisted stops then.

    :ivar begun: whether it writes in place of the socket's transport: not before the handshake is done.
    """

    #: Bodies that are being sent in this process.
    active = 0

    def __init__(self, tls: StoreTls, head: bytes, producer: ChunksProducer) -> None:
        self.done: Deferred[None] = Deferred(lambda _: producer.stopProducing())
        self.begun = False
        self._tls = tls
        self._socket: Any = tls.transport
        self._producer = producer
        self._left: deque[Any] = producer.hand_over(self._stop)
        self._left.appendleft(head)
        #: What OpenSSL wants to be given again, when it has read what it waits for.
        self._again: Any = None
        #: What the kernel had no room for.
        self._rest = _NOTHING
        tls.sending = self
        if tls.ready:
            self.begin()

    def begin(self) -> None:
        """Begin to write: the handshake is done."""
        if self.begun:
            return
        self.begun = True
        TlsSending.active += 1
        self._producer.touch()
        # Twisted's own abortConnection replaces doWrite in the same way, and takes precedence.
        self._socket.doWrite = self._write
        self._socket.startWriting()

    def wake(self) -> None:
        """Try to go on: OpenSSL has read or written something."""
        if self.begun and self._socket.connected:
            self._socket.startWriting()

    def _write(self) -> Any:
        """Write, in place of the socket's ``doWrite``. Return why the connection is lost, or None."""
        socket = self._socket
        if socket.dataBuffer or socket._tempDataBuffer:
            # The end of what Twisted has written, the handshake for example.
            lost = type(socket).doWrite(socket)
            if lost is None and self.begun:
                socket.startWriting()
            return lost
        for _ in range(MOST_CALLS):
            data = self._rest or self._encrypted()
            if not data:
                self._dry()
                break
            try:
                sent = socket.socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                return main.CONNECTION_LOST
            if sent:
                self._producer.touch()
            if sent < len(data):
                self._rest = data[sent:] if data is self._rest else memoryview(bytes(data[sent:]))
                break
            self._rest = _NOTHING
        return None

    def _dry(self) -> None:
        """Finish, if all is sent. Otherwise wait until OpenSSL has read what it waits for."""
        if not self.begun:
            return
        if self._left or self._again is not None:
            self._socket.stopWriting()
            return
        self._producer.end()
        self.release()
        self.done.callback(None)

    def _encrypted(self) -> memoryview:
        """Return the next encrypted bytes, valid until the next call; empty if there are none."""
        room = ahead()
        while room >= RECORD and (self._again is not None or self._left):
            piece = self._again if self._again is not None else self._next(room)
            try:
                taken = self._tls.engine.send(piece) if piece else 0
            except SSL.WantReadError:
                # OpenSSL insists on the same bytes.
                self._again = piece
                break
            except SSL.Error:
                self._tls.fail()
                return _NOTHING
            self._again = None
            if taken < len(piece):
                self._left.appendleft(memoryview(piece)[taken:])
            room -= taken
        return read_encrypted(self._tls.engine)

    def _next(self, room: int) -> Any:
        """Take the next bytes to encrypt: a segment, whole records of one, or several small ones."""
        segment = self._left.popleft()
        most = room // RECORD * RECORD
        if len(segment) > most:
            view = memoryview(segment)
            self._left.appendleft(view[most:])
            return view[:most]
        if len(segment) >= SMALL or not self._left or len(self._left[0]) >= SMALL:
            return segment
        small, size = [segment], len(segment)
        while self._left and len(self._left[0]) < SMALL and size + len(self._left[0]) <= RECORD:
            small.append(self._left.popleft())
            size += len(small[-1])
        return b"".join(small)

    def _stop(self) -> None:
        """Give up the rest of the body, and the connection with it: half a record may have been sent."""
        begun = self.begun
        self.release()
        if begun:
            self._socket.abortConnection()

    def release(self) -> None:
        """Give the socket's transport its writing back."""
        self._left.clear()
        self._again, self._rest = None, _NOTHING
        if self.begun:
            self.begun = False
            TlsSending.active -= 1
            socket = self._socket
            if socket.__dict__.get("doWrite") == self._write:
                del socket.doWrite
                # Somebody may have asked meanwhile to close the connection, which the transport's own writing does.
                if socket.connected and not socket.disconnecting:
                    socket.stopWriting()
        if self._tls.sending is self:
            self._tls.sent()


def ahead() -> int:
    """Return the bytes that each connection may have encrypted ahead at present."""
    return max(LEAST_AHEAD, min(MOST_AHEAD, ALL_AHEAD // max(TlsSending.active, 1)))
