"""``Upload-Checksum`` of tus, as a header or a trailer (tus 1.0.0, Checksum)."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Callable, Mapping, Sequence

from resumable.model import Invalid
from resumable.protocols.messages import Request
from resumable.quoting import quote_briefly
from resumable.uploads.digest import HASHES, ExpectedDigest, Hash

HEADER = b"upload-checksum"


#: The protocol's names.
ALGORITHMS: Mapping[str, Callable[[], Hash]] = {
    "sha1": HASHES["sha"],
    "sha256": HASHES["sha-256"],
    "sha512": HASHES["sha-512"],
    "md5": HASHES["md5"],
    "crc32": HASHES["crc32"],
    "crc32c": HASHES["crc32c"],
}


def digest_of(request: Request) -> ExpectedDigest | None:
    """Return the digest that comes with a request's body; None where none does.

    A trailer says which algorithm it is only when it comes: until then all are computed.

    :raises Invalid: the header is malformed, or names an algorithm that is not known.
    """
    lines = request.requestHeaders.getRawHeaders(HEADER, [])
    if lines:
        algorithm, expected = parse_checksum(lines)
        return ExpectedDigest(ALGORITHMS[algorithm](), lambda: expected)
    announced = b",".join(request.requestHeaders.getRawHeaders(b"trailer", [])).lower().split(b",")
    if HEADER not in (name.strip() for name in announced):
        return None
    trailing = _Trailing(request)
    return ExpectedDigest(trailing, trailing.expected)


class _Trailing:
    """All algorithms over a body whose trailer will say which one counts."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._hashes = {name: make() for name, make in ALGORITHMS.items()}
        self._chosen = "sha1"

    def update(self, data: bytes, /) -> None:
        """Add bytes."""
        for running in self._hashes.values():
            running.update(data)

    def digest(self) -> bytes:
        """Return the digest by the algorithm that the trailer names."""
        self._choose()
        return self._hashes[self._chosen].digest()

    def expected(self) -> bytes:
        """Return what the trailer says."""
        return self._choose()

    def _choose(self) -> bytes:
        lines = self._request.trailers.getRawHeaders(HEADER, [])
        if not lines:
            raise Invalid("Upload-Checksum was announced as a trailer, and did not come")
        self._chosen, expected = parse_checksum(lines)
        return expected


def parse_checksum(lines: Sequence[bytes]) -> tuple[str, bytes]:
    """Return algorithm and digest.

    :raises Invalid: it is malformed, or the algorithm is not known.
    """
    if len(lines) > 1:
        raise Invalid("more than one Upload-Checksum")
    algorithm, _, encoded = lines[0].decode("latin-1").strip().partition(" ")
    if algorithm not in ALGORITHMS:
        raise Invalid(f"Upload-Checksum: {quote_briefly(algorithm)} is not one of {', '.join(ALGORITHMS)}")
    try:
        return algorithm, b64decode(encoded.strip(), validate=True)
    except (NotBase64, ValueError):
        raise Invalid("Upload-Checksum is not of the form 'ALGORITHM BASE64'") from None
