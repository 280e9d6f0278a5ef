"""The error codes of S3 and of what speaks like it: which may pass, and who is at fault for the others."""

from __future__ import annotations

from resumable.stores.port import (
    AnswerTooLong,
    Misconfigured,
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PreconditionFailed,
    Refused,
    StoreError,
    StoreVerdict,
)
from resumable.stores.transport.exchange import TOO_LONG

#: Error codes that may not come again; beside them every 5xx (but 501 and 505), 408 and 429, and all that the store did not
#: say itself. BadDigest and IncompleteBody are what is said when bytes were damaged on the way.
TRANSIENT = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "TooManyRequests",
        "OperationAborted",
        "BadDigest",
        "IncompleteBody",
    }
)
#: Error codes by which credentials are said to be of yesterday.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})

#: Error codes by which they are said to be nobody's: they may have been replaced where they came from.
REJECTED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
#: What is said of a request that was not even begun with.
BUSY = frozenset({"SlowDown", "ServiceUnavailable"})
#: Statuses that mean, also without a document, that something is for the operator to mend: the same request will not pass
#: before. The last three say that body, key or headers are more than whoever is in between takes.
OPERATORS = frozenset({301, 307, 401, 403, 413, 414, 431})

#: What a refusal without a body (to HEAD) means.
BY_STATUS = {
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    409: "Conflict",
    412: "PreconditionFailed",
    429: "SlowDown",
    500: "InternalError",
    503: "ServiceUnavailable",
}

#: Codes that each have a type of their own, if the store itself says them.
_VERDICTS: dict[str, type[StoreVerdict]] = {
    "PreconditionFailed": PreconditionFailed,
    # Of a span that was asked for the object has nothing: it is shorter.
    "InvalidRange": PreconditionFailed,
    "InvalidPart": PartMismatch,
    "NoSuchUpload": NoSuchUpload,
    "NoSuchKey": NotFound,
}

#: S3's codes, and MinIO's own, with the field of the upload that they complain of: the same request will never be granted.
_CLIENT = {
    "KeyTooLongError": "key",
    "KeyTooLong": "key",
    "InvalidObjectName": "key",
    "InvalidURI": "key",
    "XMinioInvalidObjectName": "key",
    "XMinioInvalidResourceName": "key",
    # On a file system a name cannot be a file and a folder.
    "XMinioParentIsObject": "key",
    "XMinioObjectExistsAsDirectory": "key",
    "MetadataTooLarge": "metadata",
    "RequestHeaderSectionTooLarge": "metadata",
    "XMinioUnsupportedMetadata": "metadata",
    "UnsupportedMetadata": "metadata",
    "EntityTooLarge": "length",
}

#: Codes that say something of the whole bucket or of all requests; others may be of one upload that the main application
#: has given a class or an access list that the store does not know.
_OF_ALL = frozenset(
    {
        "AccessDenied",
        "AccountProblem",
        "AllAccessDisabled",
        "InvalidAccessKeyId",
        "InvalidBucketState",
        "NoSuchBucket",
        "NotSignedUp",
        "PermanentRedirect",
        "QuotaExceeded",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "XMinioAdminBucketQuotaExceeded",
        "XMinioStorageFull",
    }
)

#: Codes that also end an upload for good, for a reason that its client has no part in.
_NEVER = frozenset({"EntityTooSmall"})


def client_fault(code: str) -> str | None:
    """Return the field of the upload that a store's error code says can never be accepted; None: it is not the client's."""
    return _CLIENT.get(code)


def of_all(code: str) -> bool:
    """Return whether an error code says that the bucket cannot be written by anybody's upload."""
    return code in _OF_ALL or code.startswith("KMS.")


def refusal(code: str, message: str = "", status: int = 0, *, said: bool = False) -> StoreError:
    """Return the error that a refusal is.

    What nobody knows counts as the operator's to mend: the upload waits.

    :param said: whether the store's own error document has the code. Without that it tells nothing of what is stored.
    """
    if said and code in _VERDICTS:
        return _VERDICTS[code](code, message, status)
    field = client_fault(code)
    if said and (field is not None or code in _NEVER):
        return Refused(code, message, status, field=field)
    if code == TOO_LONG:
        return AnswerTooLong(code, message, status)
    return Misconfigured(code, message, status, said=said, everybody=of_all(code))
