"""A limit on bytes in use: a caller that wants more than is left waits for its turn."""

from __future__ import annotations

from collections import deque

from twisted.internet.defer import Deferred


class ReadBackLimiter:
    """Lends out bytes, first come, first served."""

    def __init__(self, size: int) -> None:
        """
        :param size: bytes in all. A caller that wants more than this gets it when nobody else has any.
        """
        self._size = size
        self._lent = 0
        self._line: deque[tuple[int, Deferred[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room for `size` bytes, and take it. If cancelled meanwhile, take nothing."""
        if self._line or not self._fits(size):
            turn = (size, Deferred[None](lambda _: self._give_way(turn)))
            self._line.append(turn)
            await turn[1]
        else:
            self._lent += size

    def give(self, size: int) -> None:
        """Give back `size` bytes that were taken."""
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
