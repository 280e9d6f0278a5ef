"""Reading the entries of listings. An entry that lacks a field is left out, and does not spoil the listing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote_plus

from twisted.logger import Logger

from resumable.crc32c_text import decode_crc32c
from resumable.stores.port import OpenMultipart, StoredObject, StoredPart
from resumable.stores.xmlapi.answers import CallFailure
from resumable.stores.xmlapi.calls import Reply
from resumable.stores.xmlapi.confirming import lacking

_log = Logger()


class Listing:
    """The pages of one listing.

    :param name: the field of a page that has the entries.
    :param needed: the fields that each entry must have.
    """

    def __init__(self, bucket: str, name: str, needed: Sequence[str]) -> None:
        self._bucket = bucket
        self._name = name
        self._needed = needed
        self._warned = False

    def entries(self, page: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """Yield the page's complete entries. The first incomplete one is logged."""
        for entry in page.get(self._name, ()):
            # A size of 0 is not missing: an empty file is an object too.
            missing = [name for name in self._needed if entry.get(name) in (None, "")]
            if not missing:
                yield entry
            elif not self._warned:
                self._warned = True
                _log.warn(
                    "a listing of bucket {bucket} has entries without {missing}: they are left out",
                    bucket=self._bucket,
                    missing=", ".join(missing),
                )


def read_key(entry: Mapping[str, Any], page: Mapping[str, Any]) -> str:
    """Return the entry's key, decoded if the page says that keys are encoded."""
    key: str = entry["Key"]
    return unquote_plus(key) if page.get("EncodingType") == "url" else key


def read_object(entry: Mapping[str, Any], page: Mapping[str, Any]) -> StoredObject:
    """Return the object in an entry of ListObjectsV2. The key alone is enough to delete what it is the key of."""
    etag = (entry.get("ETag") or "").strip('"')
    modified = entry.get("LastModified")
    return StoredObject(
        read_key(entry, page), entry.get("Size") or 0, etag, modified=modified.timestamp() if modified else None
    )


def read_http_date(text: str | None) -> float | None:
    """Return the time in a header (RFC 9110, 5.6.7) in seconds since the epoch, or None if it cannot be read."""
    try:
        return parsedate_to_datetime(text).timestamp() if text else None
    except (TypeError, ValueError, OverflowError):
        return None


def read_multipart(entry: Mapping[str, Any], page: Mapping[str, Any]) -> OpenMultipart:
    """Return the multipart upload in an entry of ListMultipartUploads."""
    return OpenMultipart(read_key(entry, page), entry["UploadId"], entry["Initiated"].timestamp())


def read_part(entry: Mapping[str, Any]) -> StoredPart:
    """Return the part in an entry of ListParts."""
    etag = entry["ETag"].strip('"')
    return StoredPart(entry["PartNumber"], entry["Size"], etag, decode_crc32c(entry.get("ChecksumCRC32C")))


def whole_parts(reply: Reply) -> CallFailure | None:
    """Check a page of ListParts. No entry may be left out of it, for that would look as if a part were gone."""
    for entry in reply.fields.get("Parts", ()):
        for name in ("PartNumber", "Size", "ETag"):
            if entry.get(name) in (None, ""):
                return lacking(name, reply)
    return None
