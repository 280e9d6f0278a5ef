"""What clients are told when the store does not work just now."""

from __future__ import annotations

from resumable.model import Unavailable
from resumable.outages import STORE
from resumable.stores.port import StoreError, StoreUnavailable


def of_an_outage(error: Exception) -> bool:
    """Say whether an error comes from the outage of a part, which is one warning for all that goes wrong meanwhile."""
    return isinstance(error, StoreUnavailable) or (isinstance(error, Unavailable) and bool(error.part))


def in_trouble(error: StoreError) -> Unavailable:
    """Return what is raised in the place of the store's error: its client asks again later."""
    part = STORE if isinstance(error, StoreUnavailable) else ""
    return Unavailable(f"the store is in trouble: {error.code}", part=part)
