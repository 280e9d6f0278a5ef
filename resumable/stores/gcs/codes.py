"""The error codes of Google Cloud Storage: which may pass, and who is at fault for the others. Pure.

Codes are those of the XML API ("HTTP status and error codes for XML"). The reasons of the JSON API are translated.
"""

from __future__ import annotations

import json
from typing import Any

from resumable.stores.port import NoSuchUpload, NotFound, PartMismatch, PreconditionFailed
from resumable.stores.xmlapi.answers import read_error_document
from resumable.stores.xmlapi.codes import Codes

#: Bytes were damaged on the way (the last four), or the store is busy.
TRANSIENT = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "TooManyRequests",
        "BadDigest",
        "CrcMismatch",
        "InvalidDigest",
        "IncompleteBody",
    }
)
UNAUTHENTICATED = "AuthenticationRequired"
#: For reasons of the JSON API, and for what it says beside them.
_XML_WORDS = {
    "conditionNotMet": "PreconditionFailed",
    "authError": UNAUTHENTICATED,
    "required": UNAUTHENTICATED,
    "forbidden": "AccessDenied",
    "insufficientPermissions": "AccessDenied",
    "accountDisabled": "AccountProblem",
    "rateLimitExceeded": "SlowDown",
    "userRateLimitExceeded": "SlowDown",
    "backendError": "InternalError",
    "internalError": "InternalError",
    "invalid": "InvalidArgument",
    "invalidParameter": "InvalidArgument",
}
#: What both APIs say of a bucket that is not there, and the JSON API of an object.
_NO_OBJECT = "No such object"

_MAKES = "storage.objects.create, storage.objects.get or storage.objects.delete"

#: Operation -> the permission that it needs.
PERMISSION_OF = {
    "PutObject": "storage.objects.create",
    "CreateMultipartUpload": "storage.multipartUploads.create",
    "UploadPart": "storage.multipartUploads.create",
    "CompleteMultipartUpload": "storage.multipartUploads.create",
    "GetObject": "storage.objects.get",
    "HeadObject": "storage.objects.get",
    "ListObjects": "storage.objects.list",
    "DeleteObject": "storage.objects.delete",
    "ListParts": "storage.multipartUploads.listParts",
    "AbortMultipartUpload": "storage.multipartUploads.abort",
    "ListMultipartUploads": "storage.multipartUploads.list",
    "ListObjectsV2": "storage.objects.list",
    # Of the JSON API. Those that make an object of others read these, and delete what they replace.
    "GetObjectResource": "storage.objects.get",
    "ListObjectResources": "storage.objects.list",
    "RewriteObject": _MAKES,
    "ComposeObject": _MAKES,
}

GCS_CODES = Codes(
    permissions=PERMISSION_OF,
    transient=TRANSIENT,
    rejected=frozenset({UNAUTHENTICATED, "InvalidSecurity", "ExpiredToken", "InvalidToken"}),
    unauthorized=frozenset({401}),
    verdicts={
        "PreconditionFailed": PreconditionFailed,
        # The object ends before the span that was asked for.
        "InvalidRange": PreconditionFailed,
        "InvalidPart": PartMismatch,
        "NoSuchUpload": NoSuchUpload,
        "NoSuchKey": NotFound,
    },
    client={
        "KeyTooLong": "key",
        "InvalidObjectName": "key",
        "InvalidURI": "key",
        "MetadataTooLarge": "metadata",
        "EntityTooLarge": "length",
    },
    never=frozenset({"EntityTooSmall"}),
    of_all=frozenset(
        {
            "AccessDenied",
            "AccountProblem",
            UNAUTHENTICATED,
            "HTTP401",
            "InvalidSecurity",
            "NoSuchBucket",
            "NotSignedUp",
            "PermanentRedirect",
            "QuotaExceeded",
            "RequestTimeTooSkewed",
            "UserProjectAccountProblem",
            "UserProjectMissing",
        }
    ),
    of_all_prefix="CloudKms",
)


def read_error(body: bytes) -> tuple[str, str]:
    """Return code and message of an error document, in XML or JSON; an empty code if it is neither."""
    if not body.startswith(b"{"):
        return read_error_document(body)
    try:
        error: Any = json.loads(body)["error"]
        reason, message = str(error["errors"][0]["reason"]), str(error.get("message") or "")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return "", ""
    if reason == "notFound":
        return ("NoSuchKey" if message.startswith(_NO_OBJECT) else "NoSuchBucket"), message
    code = _XML_WORDS.get(reason, reason)
    return "".join(each for each in code if " " <= each <= "~")[:100], message
