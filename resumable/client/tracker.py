"""How far an upload is, for those who watch it."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen


@frozen
class Progress:
    """How far an upload is.

    :ivar stored: bytes that the server has acknowledged.
    :ivar sent: bytes that were handed to a connection or are stored. It goes back when a connection breaks off.
    :ivar total: bytes in all; None for a stream whose end is not known yet.
    :ivar waiting: why it waits for the next try; empty while it goes on.
    :ivar seconds: how long it waits.
    """

    stored: int
    sent: int
    total: int | None
    waiting: str = ""
    seconds: float = 0.0


class Tracker:
    """Counts bytes, and tells a caller."""

    def __init__(self, total: int | None, tell: Callable[[Progress], object] | None) -> None:
        self.total = total
        self.stored = 0
        self._under_way = 0
        self._tell = tell

    def sent(self, size: int) -> None:
        """Note that bytes were handed to a connection."""
        self._under_way += size
        self._say()

    def ended(self, size: int) -> None:
        """Note that a request has ended for which so many bytes were sent: stored or lost, they are not on the way."""
        self._under_way -= size

    def acknowledged(self, stored: int) -> None:
        """Note how many bytes are stored."""
        self.stored = stored
        self._say()

    def waits(self, why: str, seconds: float) -> None:
        """Note that there is a pause before the next try."""
        self._say(why, seconds)

    def _say(self, why: str = "", seconds: float = 0.0) -> None:
        if self._tell is not None:
            sent = self.stored + self._under_way
            self._tell(
                Progress(self.stored, sent if self.total is None else min(sent, self.total), self.total, why, seconds)
            )
