"""Whether a successful answer can be believed: the fields that it must have, and the checksum of what was stored."""

from __future__ import annotations

from collections.abc import Callable

from resumable.crc32c_text import encode_crc32c
from resumable.stores.port import Made
from resumable.stores.transport.exchange import Answer
from resumable.stores.xmlapi.answers import CallFailure
from resumable.stores.xmlapi.calls import Reply

#: The most characters of an ETag, which goes into the ledger and into requests. S3's have about forty.
MOST_ETAG = 1000


class Uploaded:
    """Checks answers to PutObject and UploadPart.

    :param told: returns the CRC32C that an answer tells, as text; None if it tells none.
    :param generation: the header that tells an object's generation; None if there are no generations.
    """

    def __init__(self, crc32c: int | None, told: Callable[[Answer], str | None], generation: str | None = None) -> None:
        self._expected = None if crc32c is None else encode_crc32c(crc32c)
        self._told = told
        self._generation = generation

    def __call__(self, reply: Reply) -> CallFailure | None:
        """Return what is wrong with the answer, or None."""
        answer = reply.answer
        if not unquoted(answer.header(b"etag")):
            return lacking("ETag", reply)
        return damaged(reply, self._expected, self._told(answer))

    def made(self, reply: Reply) -> Made:
        """Return what a success tells of the object."""
        told = self._told(reply.answer)
        confirmed = bool(told) and told == self._expected
        generation = told_generation(reply.answer, self._generation)
        return Made(unquoted(reply.answer.header(b"etag")), confirmed, generation=generation)


def told_generation(answer: Answer, header: str | None) -> str | None:
    """Return the object's generation that an answer tells; None if it tells none, or what is no number."""
    told = answer.header(header.encode()) if header is not None else None
    return told if told is not None and told.isascii() and told.isdigit() and len(told) < 30 else None


def has_upload_id(reply: Reply) -> CallFailure | None:
    """Check the answer to CreateMultipartUpload."""
    return None if reply.fields.get("UploadId") else lacking("UploadId", reply)


def describes(reply: Reply) -> CallFailure | None:
    """Check the answer to HeadObject. A page from something on the way has a length, but no ETag."""
    if not unquoted(reply.answer.header(b"etag")):
        return lacking("ETag", reply)
    length = reply.answer.header(b"content-length") or ""
    return None if length.isascii() and length.isdigit() and len(length) < 20 else lacking("Content-Length", reply)


def lacking(what: str, reply: Reply) -> CallFailure:
    """Return the failure for a successful answer that lacks what it must have."""
    return CallFailure("MalformedAnswer", f"no {what}", reply.answer.status)


def damaged(reply: Reply, expected: str | None, told: str | None) -> CallFailure | None:
    """Return the failure if the store tells another checksum than was expected."""
    if expected is None or not told or told == expected:
        return None
    return CallFailure("ChecksumMismatch", "the store tells another CRC32C than was sent", reply.answer.status)


def unquoted(etag: str | None) -> str:
    """Return the ETag without quotes, or an empty string if there is none, or one that cannot be kept."""
    bare = (etag or "").strip().strip('"')
    return bare if len(bare) <= MOST_ETAG and bare.isprintable() else ""
