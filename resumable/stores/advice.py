"""What a store's refusals mean to an operator: the port by which each kind of store explains its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import frozen

from resumable.stores.port import StoreError


@frozen
class Meaning:
    """A refusal in an operator's words: what is wrong, and what to do about it."""

    says: str
    advice: str


class Advisor(Protocol):
    """Explains the refusals of a kind of store. Operations have S3's names (``PutObject``)."""

    def is_denied(self, error: StoreError) -> bool:
        """Say whether only a permission for this operation is missing, so that others are worth a try."""

    def explain_denied(self, denied: Mapping[str, str], bucket: str) -> list[Meaning]:
        """Return what the missing permissions mean.

        :param denied: operation -> error code, of all that were denied.
        """

    def explain(self, operation: str, error: StoreError) -> Meaning:
        """Return why the store cannot be used at all, given that it refuses this operation."""
