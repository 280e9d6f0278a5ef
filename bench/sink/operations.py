"""Finding out which S3 call a request is, and what class of price it has."""

from __future__ import annotations

from collections.abc import Collection

#: Calls that S3 charges as "PUT, COPY, POST, LIST requests".
PUT_CLASS = frozenset(
    {
        "PutObject",
        "CopyObject",
        "UploadPart",
        "UploadPartCopy",
        "CreateMultipartUpload",
        "CompleteMultipartUpload",
        "ListParts",
        "ListMultipartUploads",
        "ListObjectsV2",
        "CreateBucket",
        "PutObjectTagging",
    }
)
#: Calls that S3 charges as "GET, SELECT and all other requests".
GET_CLASS = frozenset({"GetObject", "HeadObject", "HeadBucket", "GetObjectTagging", "GetBucketLocation", "Other"})
#: Calls that S3 does not charge for.
FREE = frozenset({"DeleteObject", "DeleteObjects", "AbortMultipartUpload"})

#: Calls that bring bytes of an object.
BODIES = frozenset({"PutObject", "UploadPart"})


def operation(method: str, key: str, query: Collection[str], *, copies: bool = False) -> str:
    """Return S3's name for a request.

    :param key: the object's key; empty for a request about the bucket.
    :param query: the names in the query string.
    :param copies: whether there is an ``x-amz-copy-source`` header.
    """
    if not key:
        return _on_bucket(method, query)
    if "tagging" in query:
        return {"PUT": "PutObjectTagging", "GET": "GetObjectTagging"}.get(method, "Other")
    if "uploads" in query and method == "POST":
        return "CreateMultipartUpload"
    if "uploadId" in query:
        part = "UploadPartCopy" if copies else "UploadPart"
        multipart = {
            "PUT": part,
            "POST": "CompleteMultipartUpload",
            "GET": "ListParts",
            "DELETE": "AbortMultipartUpload",
        }
        return multipart.get(method, "Other")
    put = "CopyObject" if copies else "PutObject"
    return {"PUT": put, "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, "Other")


def _on_bucket(method: str, query: Collection[str]) -> str:
    if "delete" in query and method == "POST":
        return "DeleteObjects"
    if "uploads" in query:
        return "ListMultipartUploads"
    if "location" in query:
        return "GetBucketLocation"
    return {"PUT": "CreateBucket", "HEAD": "HeadBucket", "GET": "ListObjectsV2"}.get(method, "Other")
