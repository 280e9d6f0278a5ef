"""The error codes of S3, and of stores that speak like it: which may pass, and who is at fault for the others."""

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

#: Error codes that may pass. So may every 5xx (but 501 and 505), 408 and 429, and any refusal that is not the store's
#: own. A store says BadDigest or IncompleteBody if bytes were damaged on the way.
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
#: Those of them that say nothing about the store: another request may go well at the same time.
OF_ONE_REQUEST = frozenset({"BadDigest", "IncompleteBody", "OperationAborted"})
#: Error codes for credentials that have expired.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})

#: Error codes for credentials that the store does not know. They may have been replaced where they came from.
REJECTED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
#: Error codes that say that the store did not even begin with the request.
BUSY = frozenset({"SlowDown", "ServiceUnavailable"})
#: Statuses that, even without an error document, mean that the operator has to mend something before the request can
#: succeed. The last three come from something in between that does not take a body, key or headers as large as these.
OPERATORS = frozenset({301, 307, 401, 403, 413, 414, 431})

#: The error code that stands for a status when a refusal has no body (to HEAD).
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

#: Error codes that have a type of their own, if the store itself says them.
_VERDICTS: dict[str, type[StoreVerdict]] = {
    "PreconditionFailed": PreconditionFailed,
    # The object ends before the span that was asked for.
    "InvalidRange": PreconditionFailed,
    "InvalidPart": PartMismatch,
    "NoSuchUpload": NoSuchUpload,
    "NoSuchKey": NotFound,
}

#: Codes of S3 and of MinIO -> the field of the upload that they complain of. The same request will never be accepted.
_CLIENT = {
    "KeyTooLongError": "key",
    "KeyTooLong": "key",
    "InvalidObjectName": "key",
    "InvalidURI": "key",
    "XMinioInvalidObjectName": "key",
    "XMinioInvalidResourceName": "key",
    # On a file system, a name cannot be both a file and a folder.
    "XMinioParentIsObject": "key",
    "XMinioObjectExistsAsDirectory": "key",
    "MetadataTooLarge": "metadata",
    "RequestHeaderSectionTooLarge": "metadata",
    "XMinioUnsupportedMetadata": "metadata",
    "UnsupportedMetadata": "metadata",
    "EntityTooLarge": "length",
}

#: Codes that are about the whole bucket or all requests. Others may be about a single upload, for which the main
#: application chose a storage class or an ACL that the store does not know.
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

#: Codes that also mean that the request can never succeed, but for a reason that is not the client's.
_NEVER = frozenset({"EntityTooSmall"})


def client_fault(code: str) -> str | None:
    """Return the upload's field that, by the error code, can never be accepted; None if the client is not at fault."""
    return _CLIENT.get(code)


def of_all(code: str) -> bool:
    """Return whether an error code says that no upload at all can be stored in the bucket."""
    return code in _OF_ALL or code.startswith("KMS.")


def refusal(code: str, message: str = "", status: int = 0, *, said: bool = False) -> StoreError:
    """Return the error of the right type for a refusal.

    Unknown codes count as something that the operator has to mend, so that the upload waits.

    :param said: whether the store's own error document has the code. If not, it tells nothing about what is stored.
    """
    if said and code in _VERDICTS:
        return _VERDICTS[code](code, message, status)
    field = client_fault(code)
    if said and (field is not None or code in _NEVER):
        return Refused(code, message, status, field=field)
    if code == TOO_LONG:
        return AnswerTooLong(code, message, status)
    return Misconfigured(code, message, status, said=said, everybody=of_all(code))
