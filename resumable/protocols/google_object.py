"""A finished upload as Cloud Storage's JSON API shows an object: what the dialects of Google have in common. Pure.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

from typing import Any

from resumable.crc32c_text import encode_crc32c
from resumable.model import Upload


def generation_of(upload: Upload) -> int:
    """Return a finished upload's generation. A replayed answer has the same.

    It is the object's own in a store that has such numbers, else microseconds since the epoch, as Google's are.
    """
    if upload.object_generation is not None:
        return int(upload.object_generation)
    return int((upload.finished or upload.updated) * 1_000_000)


def object_of(upload: Upload, bucket: str) -> dict[str, Any]:
    """Return what is shown of a finished upload, but for times and URLs.

    There is no ``md5Hash``: nobody knows it of an object that came in parts.

    :param bucket: what the client calls the bucket.
    """
    generation, options = str(generation_of(upload)), upload.options
    shown: dict[str, Any] = {
        "kind": "storage#object",
        "id": f"{bucket}/{upload.name}/{generation}",
        "name": upload.name,
        "bucket": bucket,
        "generation": generation,
        "metageneration": "1",
        "contentType": options.content_type or "application/octet-stream",
        "storageClass": options.storage_class or "STANDARD",
        "size": str(upload.length or 0),
        "etag": upload.etag,
        "metadata": dict(options.metadata),
    }
    if options.content_encoding is not None:
        shown["contentEncoding"] = options.content_encoding
    if upload.crc32c is not None:
        shown["crc32c"] = encode_crc32c(upload.crc32c)
    return shown
