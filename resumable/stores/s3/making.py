"""Making the S3 client from the settings."""

from __future__ import annotations

from typing import Protocol

from resumable.stores.port import StoreContext
from resumable.stores.profiles import ProfileSection, habits_of
from resumable.stores.s3.client import S3Store


class Hidden(Protocol):
    """A secret in the settings."""

    def reveal(self) -> str:
        """Return the secret in clear text."""


class S3Section(ProfileSection, Protocol):
    """What the settings say of a store that speaks S3."""

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
    def patience(self) -> float:
        """Seconds for which a call is tried again."""


def make_s3(section: S3Section, context: StoreContext) -> S3Store:
    """Return the S3 client for the settings, with the habits of the store that they name."""
    habits = habits_of(section)
    return S3Store(
        context.reactor,
        region=habits.region,
        endpoint=section.endpoint,
        addressing=section.addressing,
        access_key=_revealed(section.access_key),
        secret_key=_revealed(section.secret_key),
        session_token=_revealed(section.session_token),
        checksum=habits.checksum,
        limits=habits.limits,
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
