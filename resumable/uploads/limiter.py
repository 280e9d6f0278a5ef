"""Room for so many bytes: who wants more than is left waits for its turn."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class ReadBackLimiter:
    """Bytes that are lent out, first come, first served."""

    def __init__(self, size: int) -> None:
        """
        :param size: bytes in all. Who wants more than that gets it when nobody else has any.
        """
        self._size = size
        self._lent = 0
        self._line: deque[tuple[int, Deferred[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and have it. Cancelled while it waits, it has nothing."""
        if self._line or not self._fits(size):
            turn = (size, Deferred[None](lambda _: self._give_way(turn)))
            self._line.append(turn)
            await turn[1]
        else:
            self._lent += size

    def give(self, size: int) -> None:
        """Give back what was taken, in bytes."""
        self._lent -= size
        self._serve()

    def _fits(self, size: int) -> bool:
        return not self._lent or self._lent + size <= self._size

    def _serve(self) -> None:
        while self._line and self._fits(self._line[0][0]):
            size, turn = self._line.popleft()
            self._lent += size
            turn.callback(None)

    def _give_way(self, turn: tuple[int, Deferred[None]]) -> None:
        self._line.remove(turn)
        self._serve()
