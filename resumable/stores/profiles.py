"""Profiles: what is different at each of the stores that speak S3, as rows of a table.

A row is what the store's own documentation says; ``docs/stores.md`` names the pages. Where the settings say something
else, they win.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from attrs import evolve, field, frozen

from resumable.stores.port import StoreLimits

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
#: The region where neither the settings nor the endpoint's host name one.
REGION = "us-east-1"


@frozen(kw_only=True)
class Profile:
    """What is different at one store.

    :ivar name: as in ``store.profile``.
    :ivar title: as its makers call it.
    :ivar hosts: a pattern of the endpoints' hosts, whole and in lower case. Its group ``region`` is the region.
    :ivar limits: what it takes, and what it can do with multipart uploads.
    :ivar checksum: whether it is documented to take a CRC32C with each part.
    :ivar tags: whether its objects have tags.
    :ivar region: what requests are signed for, unless the host says it.
    :ivar notes: what else an operator has to know, in a few words each.
    """

    name: str
    title: str
    hosts: str = ""
    limits: StoreLimits = field(factory=StoreLimits)
    checksum: bool = True
    tags: bool = True
    region: str = REGION
    notes: tuple[str, ...] = ()


GENERIC = Profile(name="auto", title="a store that speaks S3")
AWS = Profile(name="aws", title="Amazon S3", hosts=r"(.+\.)?amazonaws\.com(\.cn)?")

#: Profiles by name.
PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        AWS,
        Profile(
            name="r2",
            title="Cloudflare R2",
            hosts=r"(.+\.)?r2\.cloudflarestorage\.com",
            # "Limits" there: 5 TiB less 5 GiB for an object, 5 GiB less 5 MiB for a part.
            limits=StoreLimits(
                largest_part=5 * GIB - 5 * MIB,
                largest_object=5 * TIB - 5 * GIB,
                metadata=8192,
                equal_parts=True,
                joins=False,
            ),
            tags=False,
            region="auto",
            notes=("ends multipart uploads after 7 days by itself", "has no ACLs"),
        ),
        Profile(
            name="b2",
            title="Backblaze B2",
            hosts=r"s3\.(?P<region>[a-z0-9-]+)\.backblazeb2\.com",
            limits=StoreLimits(smallest_part=5_000_000, largest_part=5_000_000_000, largest_object=10_000_000_000_000),
            checksum=False,
            tags=False,
            notes=("keeps what is deleted as a hidden version: let a lifecycle rule end those",),
        ),
        Profile(
            name="minio",
            title="MinIO",
            hosts=r"(.+\.)?min\.io",
            limits=StoreLimits(largest_object=5 * TIB, lists_uploads=False),
        ),
        Profile(name="ceph", title="Ceph's RADOS Gateway"),
        Profile(
            name="wasabi",
            title="Wasabi",
            hosts=r"s3(\.(?P<region>[a-z0-9-]+))?\.wasabisys\.com",
            limits=StoreLimits(largest_object=5 * TIB),
            checksum=False,
        ),
        Profile(
            name="spaces",
            title="DigitalOcean Spaces",
            hosts=r"(?P<region>[a-z0-9-]+)\.digitaloceanspaces\.com",
            limits=StoreLimits(largest_object=5 * TIB),
            checksum=False,
            tags=False,
        ),
        Profile(
            name="scaleway",
            title="Scaleway Object Storage",
            hosts=r"s3\.(?P<region>[a-z0-9-]+)\.scw\.cloud",
            limits=StoreLimits(parts=1000, largest_object=5_000_000_000_000),
            checksum=False,
        ),
        Profile(
            name="storj",
            title="Storj",
            hosts=r"(.+\.)?storjshare\.io",
            limits=StoreLimits(joins=False),
            checksum=False,
            notes=("has segments of 64 MiB: store.chunk_size: 64MiB costs the fewest of them",),
        ),
        Profile(
            name="gcs-hmac",
            title="Google Cloud Storage with HMAC keys",
            hosts=r"(.+\.)?storage\.googleapis\.com",
            limits=StoreLimits(largest_object=5 * TIB, metadata=8192, joins=False),
            checksum=False,
            tags=False,
            region="auto",
            notes=("cannot refuse to replace an object that comes in several parts: store.kind: gcs can",),
        ),
    )
}


class ProfileSection(Protocol):
    """What the settings say of a store's habits; None where they leave it to the profile."""

    @property
    def profile(self) -> str:
        """A profile's name, or ``auto``."""

    @property
    def endpoint(self) -> str | None:
        """The URL of a store that is not AWS."""

    @property
    def region(self) -> str | None:
        """The bucket's region."""

    @property
    def checksum(self) -> str | None:
        """The checksum that is sent: ``crc32c`` or ``none``."""

    @property
    def max_parts(self) -> int | None:
        """The most parts of an object."""


@frozen(kw_only=True)
class Habits:
    """What a store is taken to do: its profile, and what the settings say in its place.

    :ivar profile: the row; `GENERIC` where nothing says whose store it is.
    :ivar limits: the profile's, with the settings' number of parts.
    :ivar checksum: whether checksums are sent.
    """

    profile: Profile
    region: str
    checksum: bool
    limits: StoreLimits

    def __str__(self) -> str:
        """Say what it means, for an operator."""
        limits = self.limits
        said = [f"at most {limits.parts} parts"]
        if limits.equal_parts:
            said.append("all but the last of one size")
        if not limits.copies_freely:
            said.append("stored bytes are read back to be joined")
        if not limits.lists_uploads:
            said.append("multipart uploads are listed by their exact key alone, so the ledger keeps track of them")
        said.append("CRC32C with each part" if self.checksum else "no checksums")
        if not self.profile.tags:
            said.append("no tags")
        return "; ".join([self.profile.title, f"region {self.region}", *said, *self.profile.notes])


def habits_of(section: ProfileSection) -> Habits:
    """Return what the store of these settings is taken to do."""
    host = (urlsplit(section.endpoint).hostname or "").lower() if section.endpoint else ""
    profile = _chosen(section.profile, section.endpoint, host)
    named = re.fullmatch(profile.hosts, host) if profile.hosts else None
    region = (named.groupdict().get("region") if named else None) or profile.region
    checksum = profile.checksum if section.checksum is None else section.checksum == "crc32c"
    limits = evolve(profile.limits, parts=section.max_parts or profile.limits.parts)
    return Habits(profile=profile, region=section.region or region, checksum=checksum, limits=limits)


def _chosen(name: str, endpoint: str | None, host: str) -> Profile:
    if name != GENERIC.name:
        return PROFILES[name]
    if endpoint is None:
        return AWS
    return next((one for one in PROFILES.values() if one.hosts and re.fullmatch(one.hosts, host)), GENERIC)
