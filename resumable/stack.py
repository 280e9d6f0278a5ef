"""What was started, and how it is closed: in reverse, and all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.logger import Logger


class Closed(Exception):
    """It is too late to start anything more: what was started is being closed, or has been."""


class Stack:
    """Closes what was started, the last first. A failing close is logged, and the rest is closed all the same."""

    _log = Logger()

    def __init__(self) -> None:
        self._entries: list[tuple[str, Callable[[], Awaitable[object] | None]]] = []
        self._closed = False

    def push(self, name: str, close: Callable[[], Awaitable[object] | None]) -> None:
        """Note how something is closed; noted before it is started, it is closed where its start fails, too.

        :param name: what it is, for the log.
        :raises Closed: everything else is closed already: nobody would close this.
        """
        if self._closed:
            raise Closed(name)
        self._entries.append((name, close))

    async def close(self) -> None:
        """Close everything, each when the one before it has been closed."""
        self._closed = True
        while self._entries:
            name, close = self._entries.pop()
            try:
                closing = close()
                if closing is not None:
                    await closing
            except Exception:
                self._log.failure("closing failed: {name}", name=name)
