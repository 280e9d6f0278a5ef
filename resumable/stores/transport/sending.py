"""A request on its way to the store over plain TCP: the segments of its body go to the kernel as they are, many at a time.

Twisted's transport takes one piece, sends 128 KiB of it for each round of the reactor, joins the pieces that are small,
and is asked to stop and start writing in between. For bodies of megabytes that costs more than all else that is done with
them. Here one ``sendmsg`` hands over whatever the socket has room for.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import Any

from twisted.internet import main
from twisted.internet.defer import Deferred
from twisted.internet.tcp import Connection

# Agent takes a URL apart and puts it together again, by which "//" at the head of a path may change: what is signed has
# to be sent as it is. This is what Agent itself hands to the pool's connections.
from twisted.web._newclient import Request
from twisted.web.http_headers import Headers

from resumable.stores.transport.body_producer import ChunksProducer

#: Segments handed over in one call; the kernel takes 1024 at most.
MOST_SEGMENTS = 64
#: Calls for each round of the reactor: a socket that takes all it is given leaves the others their turn.
MOST_CALLS = 8


class SegmentsRequest(Request):
    """A request whose body, if its connection is plain TCP, is sent by `Sending`; any other is sent as Twisted does."""

    bodyProducer: ChunksProducer | None

    def writeTo(self, transport: Any) -> Deferred[None]:
        """Send all of the request; fires when the kernel has it."""
        if self.bodyProducer is None or not _is_idle_tcp(transport):
            return super().writeTo(transport)  # type: ignore[no-any-return, no-untyped-call]
        lines = [b"%s %s HTTP/1.1" % (self.method, self.uri), b"Content-Length: %d" % self.bodyProducer.length]
        for name, values in self.headers.getAllRawHeaders():
            lines += [b"%s: %s" % (name, value) for value in values]
        return Sending(transport, b"\r\n".join([*lines, b"", b""]), self.bodyProducer).done


def make_request(method: bytes, target: bytes, headers: Headers, body: ChunksProducer | None) -> SegmentsRequest:
    """Return a request for a connection that is to be kept.

    :param headers: all of them, with one Host, but those of the body's framing.
    """
    return SegmentsRequest(method, target, headers, body, persistent=True)  # type: ignore[no-untyped-call]


def _is_idle_tcp(transport: Any) -> bool:
    """Say whether the transport is a bare socket with nothing of its own left to write."""
    if not isinstance(transport, Connection) or transport.TLS:
        return False
    return not transport.dataBuffer and not transport._tempDataBuffer


class Sending:
    """Takes the place of the transport's own writing until the body is out.

    The producer tells of the end of the connection, for Twisted stops it then.
    """

    def __init__(self, transport: Any, head: bytes, producer: ChunksProducer) -> None:
        self.done: Deferred[None] = Deferred(lambda _: producer.stopProducing())
        self._transport = transport
        self._producer = producer
        self._left: deque[Any] = producer.hand_over(self._stop)
        self._left.appendleft(head)
        # As Twisted's own abortConnection does it, which goes before us.
        transport.doWrite = self._write
        transport.startWriting()

    def _write(self) -> BaseException | None:
        """Write, in place of the transport's ``doWrite``; return why the connection is lost, or None."""
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
        """Forget what the kernel has."""
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
            # Closing, which somebody may have asked for meanwhile, is the transport's own writing.
            if transport.connected and not transport.disconnecting:
                transport.stopWriting()
