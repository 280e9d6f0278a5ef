"""The error codes of S3, and of stores that speak like it: which may pass, and who is at fault for the others."""

from __future__ import annotations

from resumable.stores.port import (
    NoSuchUpload,
    NotFound,
    PartMismatch,
    PreconditionFailed,
    StoreError,
    StoreVerdict,
)
from resumable.stores.xmlapi.codes import Codes

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
#: Error codes for credentials that have expired.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})

#: Error codes for credentials that the store does not know. They may have been replaced where they came from.
REJECTED = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch"})
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

#: Operation -> the permission that it needs.
PERMISSION_OF = {
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjects": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "ListParts": "s3:ListMultipartUploadParts",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "UploadPartCopy": "s3:PutObject",
    "ListObjectsV2": "s3:ListBucket",
    "HeadBucket": "s3:ListBucket",
    "DeleteObjects": "s3:DeleteObject",
}

S3_CODES = Codes(
    permissions=PERMISSION_OF,
    transient=TRANSIENT,
    expired=EXPIRED,
    rejected=REJECTED,
    # Who may not even list is told no more than that.
    hidden=frozenset({400, 403}),
    verdicts=_VERDICTS,
    client=_CLIENT,
    never=_NEVER,
    of_all=_OF_ALL,
    of_all_prefix="KMS.",
)


def client_fault(code: str) -> str | None:
    """Return the upload's field that, by the error code, can never be accepted; None if the client is not at fault."""
    return _CLIENT.get(code)


def of_all(code: str) -> bool:
    """Return whether an error code says that no upload at all can be stored in the bucket."""
    return S3_CODES.concerns_all(code)


def refusal(code: str, message: str = "", status: int = 0, *, said: bool = False) -> StoreError:
    """Return the error of the right type for a refusal: see `Codes.refusal`."""
    return S3_CODES.refusal(code, message, status, said=said)
