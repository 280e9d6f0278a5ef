"""A body's digest: bytes whose digest is wrong do not count."""

from __future__ import annotations

from collections.abc import Callable
from hmac import compare_digest
from typing import Protocol

from attrs import define

from resumable.model import DigestMismatch


class BodyDigest(Protocol):
    """The digest of one body, which is known before the body (from a header) or after it (from a trailer)."""

    def update(self, data: bytes) -> None:
        """Look at the next segment of the body. It is to be neither kept nor changed."""

    async def verify(self) -> None:
        """Check the digest; called once, when the whole body has come.

        :raises DigestMismatch: the bytes are others than those that the client has sent.
        :raises UploadError: the digest cannot be checked, for example because the trailer lacks it.
        """


class Hash(Protocol):
    """A running hash, as those of `hashlib` are."""

    def update(self, data: bytes, /) -> object:
        """Add bytes."""

    def digest(self) -> bytes:
        """Return the hash of all that was added."""


@define
class ExpectedDigest:
    """A `BodyDigest` that compares a hash of the body with what the client says.

    :ivar hash: runs over the body.
    :ivar expected: returns the digest that the client has sent; asked at the body's end, so it may come in a trailer.
    """

    hash: Hash
    expected: Callable[[], bytes]

    def update(self, data: bytes) -> None:
        """See `BodyDigest`."""
        self.hash.update(data)

    async def verify(self) -> None:
        """See `BodyDigest`."""
        if not compare_digest(self.hash.digest(), self.expected()):
            raise DigestMismatch("the body's digest is not the one that was sent with it; nothing of the body was kept")
