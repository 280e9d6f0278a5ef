"""When a request begins that was read together with a former one (pipelined).

16 KiB hold some 250 requests. Each costs a fraction of a millisecond, and everybody else waits meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

from resumable.web.chunked import Turns

#: Requests begun in a turn of the reactor, on all connections together, of those that were read together with a former one.
REQUESTS_PER_TURN = 32
#: The same on one connection.
REQUESTS_AT_ONCE = 4


class RequestTurns:
    """Says for one connection whether its next request may begin now.

    :ivar at_once: requests begun since bytes came, or since the last turn in line.
    :ivar waiting: whether the connection stands in line for a turn.
    """

    def __init__(self, turns: Turns, begin: Callable[[], object]) -> None:
        """
        :param turns: shared by all connections.
        :param begin: is called when the connection has its turn.
        """
        self.at_once = 0
        self.waiting = False
        self._shared = turns
        self._begin = begin

    def take(self) -> bool:
        """Say whether the next request may begin now; if not, stand in line, and have `begin` called."""
        if self.at_once < REQUESTS_AT_ONCE and self._shared.left > 0:
            self.at_once += 1
            self._shared.left -= 1
            return True
        self.waiting = True
        self._shared.wait(self._turn_came)
        return False

    def _turn_came(self) -> None:
        self.waiting = False
        self.at_once = 0
        self._begin()
