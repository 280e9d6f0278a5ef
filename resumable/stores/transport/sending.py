"""Sending a request: the segments of its body go to the kernel as they are, many at a time, or into TLS.

Twisted's transport takes one segment, sends 128 KiB of it in each round of the reactor, joins small segments, and
pauses and resumes its producer in between. For bodies of megabytes that costs more than everything else that is done
with them. Here one ``sendmsg`` hands over as much as the socket has room for.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection

# Agent takes a URL apart and puts it together again, which may change a "//" at the head of a path. But what was signed
# has to be sent unchanged. So use the class that Agent itself hands to the pool's connections.
from twisted.web._newclient import Request
from twisted.web.http_headers import Headers

from resumable.stores.transport.body_producer import ChunksProducer
from resumable.stores.transport.tls import StoreTls, TlsSending

#: Segments that are handed over in one call. The kernel takes at most 1024.
MOST_SEGMENTS = 64
#: Calls in one round of the reactor, so that a fast socket leaves other connections their turn.
MOST_CALLS = 8


class SegmentsRequest(Request):
    """A request whose body is sent by `Sending` or `TlsSending` if they can, and otherwise as Twisted does."""

    bodyProducer: ChunksProducer | None

    def writeTo(self, transport: Any) -> Deferred[None]:
        """Send the request. The Deferred fires when the kernel has all of it."""
        tls = isinstance(transport, StoreTls) and transport.takes_segments
        if self.bodyProducer is None or not (tls or _is_idle_tcp(transport)):
            return super().writeTo(transport)  # type: ignore[no-any-return, no-untyped-call]
        lines = [b"%s %s HTTP/1.1" % (self.method, self.uri), b"Content-Length: %d" % self.bodyProducer.length]
        for name, values in self.headers.getAllRawHeaders():
            lines += [b"%s: %s" % (name, value) for value in values]
        send = TlsSending if tls else Sending
        return send(transport, b"\r\n".join([*lines, b"", b""]), self.bodyProducer).done


def make_request(method: bytes, target: bytes, headers: Headers, body: ChunksProducer | None) -> SegmentsRequest:
    """Return a request for a connection that is kept afterwards.

    :param headers: all of them, including one Host, except those of the body's framing.
    """
    return SegmentsRequest(method, target, headers, body, persistent=True)  # type: ignore[no-untyped-call]


def _is_idle_tcp(transport: Any) -> bool:
    """Say whether the transport is a plain socket, with nothing left to write."""
    if not isinstance(transport, Connection) or transport.TLS:
        return False
    return not transport.dataBuffer and not transport._tempDataBuffer


class Sending:
    """Writes in place of the transport until the body is sent.

    It learns of the end of the connection from the producer, which Twisted stops then.
    """

    def __init__(self, transport: Any, head: bytes, producer: ChunksProducer) -> None:
        self.done: Deferred[None] = Deferred(lambda _: producer.stopProducing())
        self._transport = transport
        self._producer = producer
        self._left: deque[Any] = producer.hand_over(self._stop)
        self._left.appendleft(head)
        # Twisted's own abortConnection replaces doWrite in the same way, and takes precedence.
        transport.doWrite = self._write
        # Mostly there is room, and for a small body that is all.
        if self._write() is not None or self._left:
            transport.startWriting()

    def _write(self) -> BaseException | None:
        """Write, in place of the transport's ``doWrite``. Return why the connection is lost, or None."""
        for _ in range(MOST_CALLS):
            segments = list(islice(self._left, MOST_SEGMENTS))
            wanted = sum(map(len, segments))
            try:
                sent = self._transport.socket.sendmsg(segments)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return main.CONNECTION_LOST
            self._producer.touch()
            self._drop(sent)
            if not self._left:
                self._producer.end()
                self._stop()
                self.done.callback(None)
                break
            if sent < wanted:
                break
        return None

    def _drop(self, sent: int) -> None:
        """Forget the `sent` bytes that the kernel has taken."""
        while self._left and sent >= len(self._left[0]):
            sent -= len(self._left.popleft())
        if sent:
            self._left[0] = memoryview(self._left[0])[sent:]

    def _stop(self) -> None:
        """Give the transport its writing back."""
        self._left.clear()
        transport = self._transport
        if transport.__dict__.get("doWrite") == self._write:
            del transport.doWrite
            # Somebody may have asked meanwhile to close the connection, which the transport's own writing does.
            if transport.connected and not transport.disconnecting:
                transport.stopWriting()
