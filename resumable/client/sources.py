"""Where bytes come from: a file, which can be read anywhere, or standard input, which is read once."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from resumable.client.errors import Changed, Failed

T = TypeVar("T")

#: Bytes that are read in one visit to a thread.
READ = 1024 * 1024


class Source(Protocol):
    """Bytes that can be read again."""

    async def read(self, first: int, size: int, block: int) -> list[bytes]:
        """Return the bytes from `first` on in blocks of at most `block` bytes, `size` in all."""
        ...


@frozen
class Identity:
    """What tells a file from what it was before: bytes, and nanoseconds of the last modification."""

    size: int
    mtime_ns: int


class FileSource:
    """A regular file, kept open while it is uploaded. Read in the reactor's threads.

    :ivar identity: what it was when it was opened.
    """

    def __init__(self, reactor: Any, path: str) -> None:
        self.path = os.path.abspath(path)
        self.identity = Identity(0, 0)
        self._reactor = reactor
        self._fd = -1
        self._reading = 0
        self._closing = False

    async def open(self) -> None:
        """Open the file.

        :raises Failed: it cannot be read, or is no regular file.
        """
        try:
            self._fd, self.identity = await self._in_thread(self._open)
        except OSError as error:
            raise Failed(f"cannot be read: {error.strerror or error}") from None

    def _open(self) -> tuple[int, Identity]:
        # A FIFO would wait for a writer without O_NONBLOCK.
        fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            os.close(fd)
            raise OSError(None, "it is no regular file")
        return fd, Identity(found.st_size, found.st_mtime_ns)

    async def read(self, first: int, size: int, block: int) -> list[bytes]:
        """See `Source.read`.

        :raises Changed: the file has become shorter.
        :raises Failed: it cannot be read.
        """

        def work() -> list[bytes]:
            found, at = [], first
            while at < first + size:
                data = os.pread(self._fd, min(block, first + size - at), at)
                if not data:
                    raise Changed("the file has become shorter while it was uploaded")
                found.append(data)
                at += len(data)
            return found

        try:
            return await self._in_thread(work)
        except OSError as error:
            raise Failed(f"cannot be read: {error.strerror or error}") from None

    async def check(self) -> None:
        """Look whether the file is still what it was.

        :raises Changed: it is not.
        """
        found = await self._in_thread(lambda: os.fstat(self._fd))
        if Identity(found.st_size, found.st_mtime_ns) != self.identity:
            raise Changed("the file has changed since its upload was begun: start again to upload it as it is now")

    def _in_thread(self, work: Callable[[], T]) -> Deferred[T]:
        self._reading += 1
        doing = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work)
        # Cancelled, the work in the thread goes on all the same: the outcome is dropped, and the file closed later.
        outer: Deferred[T] = Deferred(lambda _: None)

        def ended(outcome: Any) -> None:
            self._reading -= 1
            self._close_if_idle()
            if not outer.called:
                outer.callback(outcome)

        doing.addBoth(ended)
        return outer

    def close(self) -> None:
        """Close the file, once no thread reads it any more."""
        self._closing = True
        self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and not self._reading and self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StreamSource:
    """A file descriptor that is read once, from its start to its end: a pipe, a terminal, or a file.

    It is read in a thread that can be woken, so that nobody waits for a writer that says nothing.
    """

    def __init__(self, reactor: Any, fd: int) -> None:
        """
        :param fd: stays open.
        """
        self._reactor = reactor
        self._fd = fd
        self._woken, self._wake = os.pipe()
        self._reading = self._closing = False

    async def take(self, size: int) -> list[bytes]:
        """Return the next bytes, in pieces as they came: `size` in all, and fewer only at the end.

        :raises Failed: it cannot be read.
        """

        def work() -> list[bytes]:
            found, left = [], size
            poll = select.poll()
            for fd in (self._fd, self._woken):
                poll.register(fd, select.POLLIN)
            while left:
                ready = poll.poll()
                if any(fd == self._woken for fd, _ in ready):
                    return []
                try:
                    data = os.read(self._fd, min(left, READ))
                except BlockingIOError:
                    continue
                if not data:
                    break
                found.append(data)
                left -= len(data)
            return found

        self._reading = True
        outer: Deferred[list[bytes]] = Deferred(lambda _: None)

        def ended(outcome: Any) -> None:
            self._reading = False
            self._close_if_idle()
            if not outer.called:
                outer.callback(outcome)

        deferToThreadPool(self._reactor, self._reactor.getThreadPool(), work).addBoth(ended)
        try:
            return await outer
        except (OSError, ValueError) as error:
            raise Failed(f"standard input cannot be read: {getattr(error, 'strerror', None) or error}") from None

    def close(self) -> None:
        """Wake whoever reads."""
        if not self._closing:
            self._closing = True
            os.write(self._wake, b"x")
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._closing and not self._reading and self._wake >= 0:
            os.close(self._woken)
            os.close(self._wake)
            self._wake = -1


class Held:
    """Bytes of a stream that are kept until they are acknowledged.

    :ivar first: the offset of the first of them in the stream.
    """

    def __init__(self, first: int, blocks: list[bytes]) -> None:
        self.first = first
        self.end = first + sum(map(len, blocks))
        self._blocks = blocks

    async def read(self, first: int, size: int, block: int) -> list[bytes]:
        """See `Source.read`."""
        found, at = [], self.first
        for held in self._blocks:
            low, high = max(first - at, 0), min(first + size - at, len(held))
            # A slice of a memoryview would be no bytes, which transports insist on.
            found += [held[cut : min(cut + block, high)] for cut in range(low, high, block)]
            at += len(held)
        return found
