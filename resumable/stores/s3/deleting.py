"""The request that deletes many objects at once, and what its answer says."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import md5
from xml.sax.saxutils import escape

from resumable.stores.s3.codes import S3_CODES
from resumable.stores.xmlapi.answers import CallFailure, plain
from resumable.stores.xmlapi.calls import Reply
from resumable.stores.xmlapi.documents import document

#: The most keys of one request.
DELETED_AT_ONCE = 1000
#: The error code of a key under which there is nothing. S3 calls that deleted; some stores that speak like it do not.
GONE = "NoSuchKey"


def deletion(keys: Sequence[str]) -> tuple[bytes, dict[str, str]]:
    """Return the body of DeleteObjects for these keys, and its headers. Every store knows Content-MD5, which it must have."""
    objects = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
    body = document("Delete", objects)
    checksum = b64encode(md5(body, usedforsecurity=False).digest()).decode("ascii")
    return body, {"Content-Type": "application/xml", "Content-MD5": checksum}


def all_deleted(reply: Reply) -> CallFailure | None:
    """Return what was not deleted, if anything. It may be tried again: who has no right to delete is told that each time."""
    errors = reply.fields.get("Errors") or ()
    for error in errors:
        code, message = plain(str(error.get("Code") or "InternalError")), plain(str(error.get("Message") or ""))
        if code == GONE:
            continue
        return CallFailure(
            code, message, reply.answer.status, transient=code != "AccessDenied", said=True, codes=S3_CODES
        )
    return None
