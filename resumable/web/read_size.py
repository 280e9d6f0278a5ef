"""How much to ask of a socket at a time while a body is read. Pure."""

from __future__ import annotations

#: Bytes. A read is allocated whole before anything is in it, and what is not filled leaves a hole behind: where little arrives
#: at a time (some kB from each of a thousand slow clients), large reads cost memory and more time than they save; where much
#: does, each read less is a round of the reactor less. The largest is half a chunk of the default size, and less than what glibc
#: gives back to the kernel each time (`resumable.malloc.OWN`).
SMALLEST = 16 * 1024
FIRST = 256 * 1024
LARGEST = 3 * 1024 * 1024


class ReadSize:
    """Follows what arrives: twice as much after a read that was filled, half after one that was half empty.

    :ivar size: bytes to ask for next.
    """

    def __init__(self) -> None:
        self.size = FIRST

    def learn(self, asked: int, came: int) -> None:
        """Take note that `came` bytes were there when `asked` were asked for."""
        if came >= asked:
            self.size = min(2 * self.size, LARGEST)
        elif came < self.size // 2:
            self.size = max(self.size // 2, SMALLEST)
