"""Log lines for a reader that may not read them: a pipe, a socket, a terminal.

Writing to a full pipe waits for its reader, and the whole service would wait too. Here nothing waits: lines are kept up
to a limit; beyond it they are dropped and counted.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from threading import RLock
from time import monotonic

#: Bytes that may wait for the reader.
MOST = 1 << 20
#: Seconds until the next try to write.
AGAIN = 0.2
#: Seconds that the process waits for the reader at its end.
LAST = 1.0

#: Bytes that can be written without waiting once there is room (PIPE_BUF). A terminal may have less room than that.
_PIECE = 4096
_PIECE_OF_TERMINAL = 128

#: Calls a function after some seconds. It may itself be called in any thread.
Later = Callable[[float, Callable[[], None]], object]


def may_block(fd: int) -> bool:
    """Say whether writing to the descriptor may wait for a reader."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(fd)


class LogOutput:
    """A text file for log observers whose writes never wait. Any thread may write."""

    def __init__(self, fd: int, later: Later, dropped: Callable[[int], str], most: int = MOST) -> None:
        """
        :param later: calls the next try to write.
        :param dropped: returns a line that says how many lines were dropped.
        :param most: bytes that may wait for the reader.
        """
        self._fd = fd
        self._later = later
        self._dropped = dropped
        self._most = most
        self._waiting = bytearray()
        self._lost = 0
        self._again = False
        self._piece = _PIECE_OF_TERMINAL if os.isatty(fd) else _PIECE
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._lock = RLock()  # a signal's handler may log in the middle

    def write(self, text: str) -> None:
        """Take a line. It is written now, later, or not at all."""
        data = text.encode("utf-8", "backslashreplace")
        with self._lock:
            self._write_what_goes()
            if len(self._waiting) + len(data) > self._most:
                self._lost += 1
                return
            if self._lost and len(self._waiting) <= self._most // 2:
                self._waiting += self._dropped(self._lost).encode("utf-8", "backslashreplace")
                self._lost = 0
            elif self._lost:  # no line may come before the one about the gap
                self._lost += 1
                return
            self._waiting += data

    def flush(self) -> None:
        """Write what the reader has room for, and the rest later."""
        with self._lock:
            self._write_what_goes()
            if (self._waiting or self._lost) and not self._again:
                self._again = True
                self._later(AGAIN, self._try_again)

    def _try_again(self) -> None:
        with self._lock:
            self._again = False
            self._write_what_goes()
            if self._lost and not self._waiting:
                self._waiting += self._dropped(self._lost).encode("utf-8", "backslashreplace")
                self._lost = 0
        self.flush()

    def finish(self, patience: float = LAST) -> None:
        """Write what is left, as far as the reader takes it within `patience` seconds."""
        end = monotonic() + patience
        with self._lock:
            while self._waiting and (left := end - monotonic()) > 0:
                self._write_what_goes(left)

    def _write_what_goes(self, patience: float = 0.0) -> None:
        try:
            while self._waiting and self._poll.poll(int(patience * 1000)):
                written = os.write(self._fd, self._waiting[: self._piece])
                del self._waiting[:written]
                patience = 0.0
        except BlockingIOError:
            pass  # somebody else writes there too, and was faster
        except OSError:
            self._waiting.clear()  # the reader has gone: nobody can read it any more
