"""Who is at fault where a store refuses for good: the client with what it asked for, or the operator with what was set up.

A refusal of the first kind stands in `_CLIENT`, by the store's own code: the very same request will never be granted. All
else may be mended by the operator (rights, buckets, keys, quotas, classes, tags), and the upload waits for that.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.stores.store import StoreError

#: Seconds for which a refusal is told to those who ask whether the store can be used. Nothing else ends it where nobody
#: sends uploads any more, because the service is said not to be ready.
FRESH = 30.0

#: S3's codes, and MinIO's own, with the field of the upload that they complain of.
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


def client_fault(code: str) -> str | None:
    """Return the field of the upload that a store's error code says can never be accepted; None: it is not the client's."""
    return _CLIENT.get(code)


def of_all(code: str) -> bool:
    """Return whether an error code says that the bucket cannot be written by anybody's upload."""
    return code in _OF_ALL or code.startswith("KMS.")


class OperatorFaults:
    """What a store refuses because of how it was set up: logged when it begins or changes, and told while it lasts.

    :param clock: for `FRESH`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._codes: dict[str, tuple[StoreError, float]] = {}

    def refused(self, bucket: str, error: StoreError, upload_id: str) -> None:
        """Note a refusal; only the first of its code in a bucket is logged."""
        former = self._codes.get(bucket)
        self._codes[bucket] = (StoreError(error.code, "", error.status), self._clock.seconds())
        if former is None or former[0].code != error.code:
            what = {"bucket": bucket, "error": str(error), "id": upload_id}
            self._log.error("store refused: {error} (bucket {bucket}, first for upload {id})", **what)

    def granted(self, bucket: str) -> None:
        """Note that the bucket takes uploads."""
        if self._codes and self._codes.pop(bucket, None) is not None:
            self._log.info("the store takes uploads to bucket {bucket} again", bucket=bucket)

    def check(self, bucket: str) -> None:
        """Do nothing if the bucket can be written, as far as is known.

        :raises StoreError: the store has said a moment ago that nobody's upload can be stored there.
        """
        error, at = self._codes.get(bucket, (None, 0.0))
        if error is not None and of_all(error.code) and self._clock.seconds() - at < FRESH:
            raise error
