"""What clients are told when the store does not work just now."""

from __future__ import annotations

from resumable.model import Unavailable
from resumable.outages import STORE
from resumable.stores.port import StoreError, StoreUnavailable


def in_trouble(error: StoreError) -> Unavailable:
    """Return what is raised in the place of the store's error: its client asks again later."""
    part = STORE if isinstance(error, StoreUnavailable) else ""
    return Unavailable(f"the store is in trouble: {error.code}", part=part)
