"""What goes into the client's calls and comes out of them, as txAWS had it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from attrs import field, frozen

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError
from resumable.stores.profiles import GENERIC, PROFILES, Habits, habits_of

#: Why a call failed: `code` is S3's word or one of ours, `status` the HTTP status (0 if no answer came).
S3Error = StoreError

#: ``amz_headers`` of txAWS, without ``x-amz-`` -> the field of the options.
_HEADERS = {
    "acl": "acl",
    "storage-class": "storage_class",
    "server-side-encryption": "encryption",
    "server-side-encryption-aws-kms-key-id": "kms_key",
}


@frozen
class AWSCredentials:
    """Keys that do not change. Without them botocore looks where AWS's own tools look, and renews what it finds."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@frozen
class AWSServiceEndpoint:
    """Where a store is that is not AWS, such as ``http://localhost:9000``."""

    uri: str


@frozen
class _Section:
    """What the settings of a service would say of the store."""

    profile: str
    endpoint: str | None
    region: str | None
    checksum: str | None
    max_parts: int | None = None


def habits(profile: str, endpoint: str | None, region: str | None, checksum: bool | None) -> Habits:
    """Return what the store is taken to do, by its profile. None leaves it to that.

    :param profile: a name, or ``auto`` to go by the endpoint's host.
    :raises ValueError: there is no such profile.
    """
    if profile != GENERIC.name and profile not in PROFILES:
        raise ValueError(f"profile: {profile} is not known; there are {', '.join([GENERIC.name, *PROFILES])}")
    said = None if checksum is None else "crc32c" if checksum else "none"
    return habits_of(_Section(profile, endpoint, region, said))


@frozen
class BucketItem:
    """An object in a listing. `size` is in bytes, `modification_date` in UTC."""

    key: str
    modification_date: datetime
    etag: str
    size: int


@frozen
class BucketListing:
    """Some of a bucket's objects, in the order of their keys.

    :ivar is_truncated: whether there are more. `marker` of the next call is then the last key here.
    """

    name: str
    prefix: str
    marker: str
    max_keys: int
    is_truncated: bool
    contents: list[BucketItem]


@frozen
class MultipartInitiationResponse:
    """A multipart upload that was opened."""

    bucket: str
    object_name: str
    upload_id: str


@frozen
class MultipartCompletionResponse:
    """An object that was made of parts."""

    bucket: str
    object_name: str
    etag: str


def options_of(
    content_type: str | None, metadata: Mapping[str, str] | None, amz_headers: Mapping[str, str] | None
) -> ObjectOptions:
    """Return what an object is to be created with.

    :param amz_headers: names without ``x-amz-``, in any case.
    :raises ValueError: one of `amz_headers` is not known here.
    """
    chosen: dict[str, Any] = {}
    for name, value in (amz_headers or {}).items():
        if name.lower() not in _HEADERS:
            raise ValueError(f"amz_headers: x-amz-{name} is not known; there are {', '.join(_HEADERS)}")
        chosen[_HEADERS[name.lower()]] = value
    return ObjectOptions(content_type=content_type, metadata=dict(metadata or {}), **chosen)
