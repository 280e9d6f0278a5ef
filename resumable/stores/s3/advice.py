"""What S3's refusals mean to an operator, and what to do about them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from resumable.stores.advice import Meaning
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.s3.codes import PERMISSION_OF

#: The IAM permissions that the service needs, and what does not work without each.
PERMISSIONS = {
    "s3:PutObject": "nothing can be stored",
    "s3:GetObject": "fragments cannot be joined, and an object whose answer was lost is not recognised",
    "s3:ListBucket": "fragments of ended uploads are not found to be deleted",
    "s3:DeleteObject": "fragments stay in the bucket for ever",
    "s3:ListMultipartUploadParts": "an upload whose parts the ledger has wrong cannot be put right",
    "s3:AbortMultipartUpload": "parts of cancelled and expired uploads stay and are charged for",
    "s3:ListBucketMultipartUploads": "multipart uploads that nobody knows of any more are not found to be aborted",
}
#: Permissions that are given on the bucket itself, not on the objects in it.
ON_BUCKET = frozenset({"s3:ListBucket", "s3:ListBucketMultipartUploads"})


_CHAIN = "what AWS's own chain finds (environment, profile, web identity, instance role)"
_REGION = "set store.region to the bucket's"
#: Error code -> what it means, what to do.
_KNOWN = {
    "InvalidAccessKeyId": (
        "the store does not know the access key",
        f"look at store.access_key or, without it, at {_CHAIN}",
    ),
    "SignatureDoesNotMatch": ("the secret key is not the access key's", "look at store.secret_key"),
    "InvalidSecurity": ("the credentials are not valid", "look at store.access_key and store.secret_key"),
    "NoCredentials": ("", f"set store.access_key and store.secret_key, or look at {_CHAIN}"),
    "ExpiredToken": ("the credentials have expired", "get new ones"),
    "ExpiredTokenException": ("the credentials have expired", "get new ones"),
    "TokenRefreshRequired": ("the credentials have expired", "get new ones"),
    "InvalidToken": ("the store does not know the session token", "look at store.session_token"),
    "RequestTimeTooSkewed": ("this machine's clock is wrong", "set it (NTP)"),
    "NoSuchBucket": ("there is no such bucket", "create it, or name another in store.bucket"),
    "NotFound": ("there is no such bucket", "create it, or look at store.bucket and store.endpoint"),
    "InvalidBucketName": ("no bucket can have this name", "look at store.bucket"),
    "PermanentRedirect": ("the bucket is in another region", _REGION),
    "TemporaryRedirect": ("the bucket is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("the bucket is in another region", _REGION),
    "IllegalLocationConstraintException": ("the bucket is in another region", _REGION),
    "HTTP301": ("the bucket is in another region", _REGION),
    "HTTP307": ("the bucket is in another region", _REGION),
    "BadProxy": ("what the environment names as a proxy cannot be one", "look at HTTP_PROXY and HTTPS_PROXY"),
    "ProxyRefused": (
        "the proxy does not connect to the store",
        "look at HTTPS_PROXY, or name the store's host in NO_PROXY",
    ),
    "MalformedAnswer": ("what answers does not speak like S3", "look at store.endpoint and store.addressing"),
}
_NOT_A_PERMISSION = frozenset(_KNOWN)
#: How stores name the bucket's region in their messages.
_WHERE = re.compile(r"the bucket is in ([\w-]+)|expecting '([\w-]+)'")


class S3Advisor:
    """Explains what S3 says: see `resumable.stores.advice.Advisor`."""

    def is_denied(self, error: StoreError) -> bool:
        """Say whether only a permission is missing, and nothing is wrong with the credentials."""
        return error.status == 403 and error.code not in _NOT_A_PERMISSION

    def explain_denied(self, denied: Mapping[str, str], bucket: str) -> list[Meaning]:
        """Return what each missing permission means, and what to allow."""
        missing: dict[str, str] = {}
        for operation, code in denied.items():
            missing.setdefault(PERMISSION_OF[operation], code)
        return [_permission(name, code, bucket) for name, code in missing.items()]

    def explain(self, operation: str, error: StoreError) -> Meaning:
        """Return why the store cannot be used, and what to do."""
        says, advice = _KNOWN.get(error.code, ("", ""))
        region = _WHERE.search(str(error))
        if advice == _REGION and region is not None:
            found = region[1] or region[2]
            return Meaning(f"the bucket is in another region, {found} ({error.code})", f"store.region: {found}")
        if error.code == "NoCredentials":
            return Meaning(str(error).removeprefix("NoCredentials: "), advice)
        if says:
            return Meaning(f"{says} ({error.code})", advice)
        if isinstance(error, StoreUnavailable) and not error.status:
            return Meaning(
                f"cannot be reached: {str(error).rstrip('.')}", "look at store.endpoint, store.region and the network"
            )
        if isinstance(error, StoreUnavailable):
            return Meaning(f"answers {error.status} to {operation}: {error}", "look at the store, or try again later")
        return Meaning(f"refuses {operation}: {error}", "look at the store's settings and the bucket's")


def _permission(name: str, code: str, bucket: str) -> Meaning:
    where = f"arn:aws:s3:::{bucket}" if name in ON_BUCKET else f"arn:aws:s3:::{bucket}/*"
    return Meaning(f"{name} is missing ({code}): {PERMISSIONS[name]}", f"allow it on {where}")
