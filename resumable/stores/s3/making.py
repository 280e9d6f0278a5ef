"""Making the S3 client from the settings."""

from __future__ import annotations

from typing import Protocol

from resumable.stores.port import StoreContext
from resumable.stores.s3.client import S3Store


class Hidden(Protocol):
    """A secret in the settings."""

    def reveal(self) -> str:
        """Return the secret in clear text."""


class S3Section(Protocol):
    """What the settings say of a store that speaks S3."""

    @property
    def region(self) -> str:
        """The bucket's region."""

    @property
    def endpoint(self) -> str | None:
        """The URL of a store that is not AWS."""

    @property
    def addressing(self) -> str:
        """Where a URL has the bucket: ``auto``, ``path`` or ``virtual``."""

    @property
    def access_key(self) -> Hidden | None:
        """The access key; None if botocore's chain is to find the credentials."""

    @property
    def secret_key(self) -> Hidden | None:
        """The secret key that belongs to it."""

    @property
    def session_token(self) -> Hidden | None:
        """The session token that belongs to both, if there is one."""

    @property
    def checksum(self) -> str:
        """The checksum that is sent: ``crc32c`` or ``none``."""

    @property
    def patience(self) -> float:
        """Seconds for which a call is tried again."""


def make_s3(section: S3Section, context: StoreContext) -> S3Store:
    """Return the S3 client for the settings."""
    return S3Store(
        context.reactor,
        region=section.region,
        endpoint=section.endpoint,
        addressing=section.addressing,
        access_key=_revealed(section.access_key),
        secret_key=_revealed(section.secret_key),
        session_token=_revealed(section.session_token),
        checksum=section.checksum == "crc32c",
        patience=section.patience,
        observe=context.observe,
        reports=context.reports,
        retried=context.retried,
    )


def make_embedded(endpoint: str, context: StoreContext) -> S3Store:
    """Return the client for the embedded S3, which accepts any key and is never behind a proxy."""
    key = "embedded"
    return S3Store(
        context.reactor,
        endpoint=endpoint,
        access_key=key,
        secret_key=key,
        observe=context.observe,
        reports=context.reports,
        retried=context.retried,
        proxies=False,
    )


def _revealed(secret: Hidden | None) -> str | None:
    return secret.reveal() if secret else None
