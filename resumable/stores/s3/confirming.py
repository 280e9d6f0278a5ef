"""Whether a successful answer can be believed: the fields that it must have, and the checksum of what was stored."""

from __future__ import annotations

from collections.abc import Sequence

from crc32c import crc32c as crc32c_of

from resumable.crc32c_text import decode_crc32c, encode_crc32c
from resumable.stores.port import CopiedPart, Made, PartRef
from resumable.stores.s3.answers import CallFailure
from resumable.stores.s3.calls import Reply

CHECKSUM = b"x-amz-checksum-crc32c"
#: The most characters of an ETag, which goes into the ledger and into requests. S3's have about forty.
MOST_ETAG = 1000


def composite(parts: Sequence[PartRef]) -> str | None:
    """Return the checksum of an object made of the parts, as S3 writes it but without the number of parts.

    None if the checksum of a part is not known.
    """
    sums = [part.crc32c for part in parts]
    if any(each is None for each in sums):
        return None
    return encode_crc32c(crc32c_of(b"".join((each or 0).to_bytes(4, "big") for each in sums)))


class Uploaded:
    """Checks answers to PutObject and UploadPart."""

    def __init__(self, crc32c: int | None) -> None:
        self._expected = None if crc32c is None else encode_crc32c(crc32c)

    def __call__(self, reply: Reply) -> CallFailure | None:
        """Return what is wrong with the answer, or None."""
        answer = reply.answer
        if not _unquoted(answer.header(b"etag")):
            return lacking("ETag", reply)
        return _damaged(reply, self._expected, answer.header(CHECKSUM))

    def made(self, reply: Reply) -> Made:
        """Return what a success tells of the object."""
        told = reply.answer.header(CHECKSUM)
        return Made(_unquoted(reply.answer.header(b"etag")), bool(told) and told == self._expected)


class Copied:
    """Checks answers to UploadPartCopy.

    A store that does not know the operation may take the request for an UploadPart without a body. Its answer has no
    document then.
    """

    def __init__(self, crc32c: int | None) -> None:
        self._expected = None if crc32c is None else encode_crc32c(crc32c)

    def __call__(self, reply: Reply) -> CallFailure | None:
        """Return what is wrong with the answer, or None."""
        result = reply.fields.get("CopyPartResult") or {}
        if not _unquoted(result.get("ETag")):
            return lacking("ETag", reply)
        return _damaged(reply, self._expected, result.get("ChecksumCRC32C"))

    def part(self, reply: Reply) -> CopiedPart:
        """Return what a success tells of the part."""
        result = reply.fields["CopyPartResult"]
        told = result.get("ChecksumCRC32C")
        return CopiedPart(_unquoted(result["ETag"]), decode_crc32c(told) if told else None)


class Completed:
    """Checks answers to CompleteMultipartUpload."""

    def __init__(self, parts: Sequence[PartRef]) -> None:
        self._expected = composite(parts)

    def __call__(self, reply: Reply) -> CallFailure | None:
        """Return what is wrong with the answer, or None."""
        if not _unquoted(reply.fields.get("ETag")):
            return lacking("ETag", reply)
        return _damaged(reply, self._expected, self._told(reply))

    def made(self, reply: Reply) -> Made:
        """Return what a success tells of the object."""
        told = self._told(reply)
        return Made(_unquoted(reply.fields.get("ETag")), told is not None and told == self._expected)

    def _told(self, reply: Reply) -> str | None:
        """Return the checksum of the parts' checksums, or None.

        A checksum of the whole object could not be compared with it.
        """
        told: str | None = reply.fields.get("ChecksumCRC32C")
        if not told or reply.fields.get("ChecksumType") == "FULL_OBJECT":
            return None
        return told.partition("-")[0]


def has_upload_id(reply: Reply) -> CallFailure | None:
    """Check the answer to CreateMultipartUpload."""
    return None if reply.fields.get("UploadId") else lacking("UploadId", reply)


def describes(reply: Reply) -> CallFailure | None:
    """Check the answer to HeadObject. A page from something on the way has a length, but no ETag."""
    if not _unquoted(reply.answer.header(b"etag")):
        return lacking("ETag", reply)
    length = reply.answer.header(b"content-length") or ""
    return None if length.isascii() and length.isdigit() and len(length) < 20 else lacking("Content-Length", reply)


def lacking(what: str, reply: Reply) -> CallFailure:
    """Return the failure for a successful answer that lacks what it must have."""
    return CallFailure("MalformedAnswer", f"no {what}", reply.answer.status)


def _damaged(reply: Reply, expected: str | None, told: str | None) -> CallFailure | None:
    if expected is None or not told or told == expected:
        return None
    return CallFailure("ChecksumMismatch", "the store tells another CRC32C than was sent", reply.answer.status)


def _unquoted(etag: str | None) -> str:
    """Return the ETag without quotes, or an empty string if there is none, or one that cannot be kept."""
    bare = (etag or "").strip().strip('"')
    return bare if len(bare) <= MOST_ETAG and bare.isprintable() else ""
