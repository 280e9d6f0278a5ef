"""The kinds of stores: how each is made from its settings, and what explains its refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from resumable.stores.advice import Advisor
from resumable.stores.gcs.advice import GcsAdvisor
from resumable.stores.gcs.making import make_gcs
from resumable.stores.port import Store, StoreContext
from resumable.stores.s3.advice import S3Advisor
from resumable.stores.s3.making import make_embedded, make_s3


@frozen
class StoreKind:
    """A kind of store.

    :ivar make: makes the store from its section of the settings; nothing is started.
    :ivar advisor: explains what it refuses.
    """

    make: Callable[[Any, StoreContext], Store]
    advisor: Advisor


_S3 = StoreKind(make_s3, S3Advisor())

#: Kinds by ``store.kind``. Only the service that has started the embedded store knows its address
#: (`make_embedded_store`).
KINDS = {"s3": _S3, "gcs": StoreKind(make_gcs, GcsAdvisor()), "embedded": _S3}


def make_store(section: Any, context: StoreContext) -> Store:
    """Return the store for its section of the settings. It is not started."""
    return KINDS[section.kind].make(section, context)


def make_embedded_store(endpoint: str, context: StoreContext) -> Store:
    """Return the store for the embedded server at the endpoint's URL."""
    return make_embedded(endpoint, context)


def advisor_of(kind: str) -> Advisor:
    """Return what explains the refusals of a kind of store."""
    return KINDS[kind].advisor
