"""Making the client of Google Cloud Storage from the settings."""

from __future__ import annotations

from typing import Protocol

from resumable.stores.gcs.client import GcsStore
from resumable.stores.port import StoreContext


class GcsSection(Protocol):
    """What the settings say of Google Cloud Storage."""

    @property
    def endpoint(self) -> str | None:
        """The URL of the store, if it is not Google's own."""

    @property
    def credentials(self) -> str | None:
        """The path of a key file; None for Application Default Credentials."""

    @property
    def fragments_prefix(self) -> str:
        """What the service's own keys begin with."""

    @property
    def checksum(self) -> str | None:
        """The checksum that is sent: ``crc32c`` (the default) or ``none``."""

    @property
    def patience(self) -> float:
        """Seconds for which a call is tried again."""


def make_gcs(section: GcsSection, context: StoreContext) -> GcsStore:
    """Return the client for the settings."""
    return GcsStore(
        context.reactor,
        endpoint=section.endpoint,
        credentials=section.credentials,
        prefix=section.fragments_prefix,
        checksum=section.checksum != "none",
        patience=section.patience,
        observe=context.observe,
        reports=context.reports,
        retried=context.retried,
        ledger=context.ledger,
    )
