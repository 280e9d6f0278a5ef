"""A body's digest: bytes whose digest is wrong do not count."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from hmac import compare_digest
from typing import Protocol

import crc32c
from attrs import define, field, frozen

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
class Crc:
    """A 32-bit checksum as a running hash; four bytes, most significant first."""

    add: Callable[[bytes, int], int]
    value: int = 0

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        self.value = self.add(data, self.value)

    def digest(self) -> bytes:
        """Return the checksum of all that was added."""
        return self.value.to_bytes(4, "big")


#: What can be computed, by the names of the registry "Hash Algorithms for HTTP Digest Fields" (RFC 9530, 5); and tus's crc32.
HASHES: Mapping[str, Callable[[], Hash]] = {
    "sha-256": hashlib.sha256,
    "sha-512": hashlib.sha512,
    "sha": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32c": lambda: Crc(crc32c.crc32c),
    "crc32": lambda: Crc(zlib.crc32),
}
#: Those that a trailer may say. Until it comes nobody knows which it will be, so all of them are computed.
IN_TRAILERS = ("sha-256", "sha-512", "crc32c")


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


@define
class ExpectedDigests:
    """A `BodyDigest` of several algorithms at once: all that the client has sent have to be right.

    :ivar expected: returns the digests that the client has sent, by the names of `HASHES`; asked at the body's end.
    :ivar hashes: run over the body.
    """

    expected: Callable[[], Mapping[str, bytes]]
    hashes: Mapping[str, Hash]

    @classmethod
    def of(cls, said: Mapping[str, bytes]) -> ExpectedDigests:
        """Return the digest of a body whose client has said this before it comes."""
        return cls(lambda: said, {name: HASHES[name]() for name in said})

    def update(self, data: bytes) -> None:
        """See `BodyDigest`."""
        for running in self.hashes.values():
            running.update(data)

    async def verify(self) -> None:
        """See `BodyDigest`."""
        for name, expected in self.expected().items():
            compare(name, self.hashes[name].digest(), expected)


def compare(algorithm: str, computed: bytes, expected: bytes) -> None:
    """Compare a digest of a body with what its client has said.

    :raises DigestMismatch: they differ. It names the algorithm, and what was computed.
    """
    if not compare_digest(computed, expected):
        text = b64encode(computed).decode("ascii")
        raise DigestMismatch(
            f"the body's {algorithm} is {text}, not what was sent with it; nothing of the body was kept",
            algorithm=algorithm,
            computed=text,
        )


@define
class AllOf:
    """Several digests of one body."""

    digests: Sequence[BodyDigest]

    def update(self, data: bytes) -> None:
        """See `BodyDigest`."""
        for digest in self.digests:
            digest.update(data)

    async def verify(self) -> None:
        """See `BodyDigest`."""
        for digest in self.digests:
            await digest.verify()


def joined(digests: Iterable[BodyDigest | None]) -> BodyDigest | None:
    """Return one digest in place of several; None where there is none."""
    found = [digest for digest in digests if digest is not None]
    return found[0] if len(found) == 1 else AllOf(found) if found else None


@define
class TrailingDigests:
    """A `BodyDigest` of what a trailer says of the whole object.

    :ivar trailing: returns what it says, once the body has come.
    :ivar hashes: run over the body, if that is the whole object.
    :ivar expect: takes the client's word, if it is not.
    """

    trailing: Callable[[], Mapping[str, bytes]]
    hashes: Mapping[str, Hash]
    expect: Callable[[Mapping[str, bytes]], Awaitable[object]] | None

    @classmethod
    def of(
        cls,
        trailing: Callable[[], Mapping[str, bytes]],
        expect: Callable[[Mapping[str, bytes]], Awaitable[object]] | None,
    ) -> TrailingDigests:
        """:param expect: None where the body is the whole object."""
        return cls(trailing, {} if expect is not None else {name: HASHES[name]() for name in IN_TRAILERS}, expect)

    def update(self, data: bytes) -> None:
        """See `BodyDigest`."""
        for running in self.hashes.values():
            running.update(data)

    async def verify(self) -> None:
        """See `BodyDigest`."""
        said = self.trailing()
        if self.expect is not None:
            await self.expect(said)
            return
        for name, expected in said.items():
            compare(name, self.hashes[name].digest(), expected)


@frozen
class Digests:
    """What a request says of digests.

    :ivar body: the digest of the body that it brings.
    :ivar whole: the digests of the whole object, by the names of `HASHES` (RFC 9530, 3).
    :ivar trailing: returns such digests too, once the body has come; None where none were announced.
    :ivar all_in_one: the body is the whole object, whatever its length turns out to be.
    """

    body: BodyDigest | None = None
    whole: Mapping[str, bytes] = field(factory=dict)
    trailing: Callable[[], Mapping[str, bytes]] | None = None
    all_in_one: bool = False

    @property
    def told(self) -> bool:
        """Whether anything is said."""
        return self.body is not None or bool(self.whole) or self.trailing is not None
