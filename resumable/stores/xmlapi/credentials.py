"""What permits requests: the port by which each kind of store adds its own headers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class NoCredentials(Exception):
    """There are no credentials, or they expired and could not be renewed. The message is for the operator."""


class CannotSign(NoCredentials):
    """There are credentials, but no URL can be signed with them."""


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
