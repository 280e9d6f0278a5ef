"""What the refusals of Google Cloud Storage mean to an operator, and what to do about them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from resumable.stores.advice import Meaning
from resumable.stores.gcs.codes import PERMISSION_OF
from resumable.stores.port import StoreError, StoreUnavailable

#: The IAM permissions that the service needs, and what does not work without each.
PERMISSIONS = {
    "storage.objects.create": "nothing can be stored",
    "storage.objects.get": "fragments cannot be joined, and an object whose answer was lost is not recognised",
    "storage.objects.list": "fragments of ended uploads are not found to be deleted",
    "storage.objects.delete": "fragments stay in the bucket for ever, and no object can be replaced",
    "storage.multipartUploads.create": "nothing that is larger than a chunk can be stored",
    "storage.multipartUploads.listParts": "an upload whose parts the ledger has wrong cannot be put right",
    "storage.multipartUploads.abort": "parts of cancelled and expired uploads stay and are charged for",
    "storage.multipartUploads.list": "multipart uploads that nobody knows of any more are not found to be aborted",
}
_CHAIN = "GOOGLE_APPLICATION_CREDENTIALS, gcloud's own credentials, or the machine's service account"
_WHO = f"look at the key file that store.credentials names or, without that setting, at {_CHAIN}"
#: Error code -> what it means, what to do.
_KNOWN = {
    "NoCredentials": ("", _WHO),
    "AuthenticationRequired": ("Google does not take the token", _WHO),
    "HTTP401": ("Google does not take the token", _WHO),
    "NoSuchBucket": ("there is no such bucket", "create it, or name another in store.bucket"),
    "NotFound": ("there is no such bucket", "create it, or look at store.bucket and store.endpoint"),
    "InvalidBucketName": ("no bucket can have this name", "look at store.bucket"),
    "UserProjectMissing": (
        "the bucket wants a project that pays for requests",
        "name a quota project in the credentials",
    ),
    "BadProxy": ("what the environment names as a proxy cannot be one", "look at HTTP_PROXY and HTTPS_PROXY"),
    "ProxyRefused": (
        "the proxy does not connect to the store",
        "look at HTTPS_PROXY, or name the store's host in NO_PROXY",
    ),
    "MalformedAnswer": ("what answers does not speak like Cloud Storage", "look at store.endpoint"),
}


class GcsAdvisor:
    """Explains what Cloud Storage says: see `resumable.stores.advice.Advisor`."""

    def is_denied(self, error: StoreError) -> bool:
        """Say whether only a permission is missing, and nothing is wrong with the credentials."""
        return error.status == 403 and error.code not in _KNOWN

    def explain_denied(self, denied: Mapping[str, str], bucket: str) -> list[Meaning]:
        """Return what each missing permission means, and what to allow."""
        missing: dict[str, str] = {}
        for operation, code in denied.items():
            missing.setdefault(PERMISSION_OF[operation], code)
        advice = f"grant it on gs://{bucket} (the role Storage Object Admin has them all)"
        return [Meaning(f"{name} is missing ({code}): {PERMISSIONS[name]}", advice) for name, code in missing.items()]

    def explain(self, operation: str, error: StoreError) -> Meaning:
        """Return why the store cannot be used, and what to do."""
        says, advice = _KNOWN.get(error.code, ("", ""))
        if error.code == "NoCredentials":
            return Meaning(str(error).removeprefix("NoCredentials: "), advice)
        if says:
            return Meaning(f"{says} ({error.code})", advice)
        if isinstance(error, StoreUnavailable) and not error.status:
            return Meaning(f"cannot be reached: {str(error).rstrip('.')}", "look at store.endpoint and the network")
        if isinstance(error, StoreUnavailable):
            return Meaning(f"answers {error.status} to {operation}: {error}", "look at the store, or try again later")
        return Meaning(f"refuses {operation}: {error}", "look at the store's settings and the bucket's")
