"""What permits requests: the port by which each kind of store adds its own headers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

#: Seconds for which no other credentials are looked for after a search that did not help. Otherwise every request that the
#: store refuses would begin one.
SEARCH_PAUSE = 2.0


class NoCredentials(Exception):
    """There are no credentials, or they expired and could not be renewed. The message is for the operator."""


class CannotSign(NoCredentials):
    """There are credentials, but no URL can be signed with them."""


class Search:
    """Looks for other credentials, and not again at once where that did not help."""

    def __init__(self, clock: Any, obtain: Callable[[], Awaitable[None]]) -> None:
        """
        :param obtain: looks for them, and raises `NoCredentials` if there are none.
        """
        self._clock = clock
        self._obtain = obtain
        self._pause_ends: float | None = None

    @property
    def paused(self) -> bool:
        """Whether the last one was in vain just now."""
        return self._pause_ends is not None and self._clock.seconds() < self._pause_ends

    async def run(self) -> bool:
        """Look for them, unless `paused`. Return whether that was done.

        :raises NoCredentials: none can be had just now.
        """
        if self.paused:
            return False
        try:
            await self._obtain()
        except NoCredentials:
            self.was_in_vain()
            raise
        return True

    def was_in_vain(self) -> None:
        """Note that the last one did not help."""
        self._pause_ends = self._clock.seconds() + SEARCH_PAUSE


class Credentials(Protocol):
    """Adds to requests what permits them."""

    async def ready(self) -> None:
        """Wait until there are credentials that stay valid for a while.

        :raises NoCredentials: none can be had just now.
        """

    async def replace(self, *, guess: bool = False) -> bool:
        """Look for new credentials, because the store refuses these; return whether that was done.

        :param guess: whether the store did not name the credentials as the reason.
        :raises NoCredentials: none can be had just now.
        """

    def refused_again(self) -> None:
        """Note that the store refuses what `replace` has found, too."""

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the headers to send.

        :param url: percent-encoded as it will be sent. Every name in the query has an ``=``.
        """

    async def presigned(self, method: str, url: str, seconds: int) -> str:
        """Return the URL with all in its query that a request needs.

        :param url: percent-encoded, without a query.
        :param seconds: how long it is valid, at most.
        :raises NoCredentials: they have ended, or cannot sign.
        """
