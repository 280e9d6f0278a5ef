"""What was started, and how it is closed: in reverse, and all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.logger import Logger


class Stack:
    """Closes what was started, the last first. A failing close is logged, and the rest is closed all the same."""

    _log = Logger()

    def __init__(self) -> None:
        self._entries: list[tuple[str, Callable[[], Awaitable[object] | None]]] = []

    def push(self, name: str, close: Callable[[], Awaitable[object] | None]) -> None:
        """Note how something is closed; noted before it is started, it is closed where its start fails, too.

        :param name: what it is, for the log.
        """
        self._entries.append((name, close))

    async def close(self) -> None:
        """Close everything, each when the one before it has been closed."""
        while self._entries:
            name, close = self._entries.pop()
            try:
                closing = close()
                if closing is not None:
                    await closing
            except Exception:
                self._log.failure("closing failed: {name}", name=name)
