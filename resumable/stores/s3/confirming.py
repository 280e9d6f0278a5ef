"""Whether a successful answer of S3's can be believed, by the checksum of what was stored."""

from __future__ import annotations

from collections.abc import Sequence

from crc32c import crc32c as crc32c_of

from resumable.crc32c_text import decode_crc32c, encode_crc32c
from resumable.stores.port import CopiedPart, Made, PartRef
from resumable.stores.transport.exchange import Answer
from resumable.stores.xmlapi.answers import CallFailure
from resumable.stores.xmlapi.calls import Reply
from resumable.stores.xmlapi.confirming import damaged, lacking, unquoted

CHECKSUM = b"x-amz-checksum-crc32c"
TYPE = b"x-amz-checksum-type"


def told_checksum(answer: Answer) -> str | None:
    """Return the CRC32C that the answer to PutObject or UploadPart tells, as text."""
    return answer.header(CHECKSUM)


def told_of_object(answer: Answer) -> str | None:
    """Return the CRC32C of all bytes of an object that the answer to HeadObject tells, as text.

    The store has to say that it is that, and not one of the parts' checksums.
    """
    return answer.header(CHECKSUM) if answer.header(TYPE) == "FULL_OBJECT" else None


def composite(parts: Sequence[PartRef]) -> str | None:
    """Return the checksum of an object made of the parts, as S3 writes it but without the number of parts.

    None if the checksum of a part is not known.
    """
    sums = [part.crc32c for part in parts]
    if any(each is None for each in sums):
        return None
    return encode_crc32c(crc32c_of(b"".join((each or 0).to_bytes(4, "big") for each in sums)))


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
        if not unquoted(result.get("ETag")):
            return lacking("ETag", reply)
        return damaged(reply, self._expected, result.get("ChecksumCRC32C"))

    def part(self, reply: Reply) -> CopiedPart:
        """Return what a success tells of the part."""
        result = reply.fields["CopyPartResult"]
        told = result.get("ChecksumCRC32C")
        return CopiedPart(unquoted(result["ETag"]), decode_crc32c(told) if told else None)


class Completed:
    """Checks answers to CompleteMultipartUpload."""

    def __init__(self, parts: Sequence[PartRef]) -> None:
        self._expected = composite(parts)

    def __call__(self, reply: Reply) -> CallFailure | None:
        """Return what is wrong with the answer, or None."""
        if not unquoted(reply.fields.get("ETag")):
            return lacking("ETag", reply)
        return damaged(reply, self._expected, self._told(reply))

    def made(self, reply: Reply) -> Made:
        """Return what a success tells of the object."""
        etag, told = unquoted(reply.fields.get("ETag")), self._told(reply)
        if told is not None:
            return Made(etag, told == self._expected)
        whole = reply.fields.get("ChecksumCRC32C") or None
        # A store may give it a wrong name.
        return Made(etag, True) if whole == self._expected is not None else Made(etag, crc32c=decode_crc32c(whole))

    def _told(self, reply: Reply) -> str | None:
        """Return the checksum of the parts' checksums, or None.

        A checksum of the whole object could not be compared with it: that is left to whoever knows the parts' sizes.
        """
        told: str | None = reply.fields.get("ChecksumCRC32C")
        if not told or reply.fields.get("ChecksumType") == "FULL_OBJECT":
            return None
        return told.partition("-")[0]
