"""What the metadata of the store's own objects says of the multipart uploads that they belong to. Pure.

It tells a cleaning whose they are. The names differ from the one that fragments have: an object that is a part of an
upload under way, however old it is, is never to be taken for a fragment.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

#: The id of the ledger that knows the upload.
LEDGER = "resumable-multipart-ledger"
#: The key of the upload's object, percent-encoded: at most 3 KiB of the 8 that metadata may have.
KEY = "resumable-multipart-key"


def ledger_mark(ledger: str | None) -> dict[str, str]:
    """Return the metadata that says whose it is.

    :param ledger: the ledger's id; None if there is no ledger.
    """
    return {} if ledger is None else {LEDGER: ledger}


def marks(ledger: str | None, key: str) -> dict[str, str]:
    """Return the metadata that says whose it is, and what object it is for."""
    return {**ledger_mark(ledger), KEY: quote(key, safe="/")}


def marked_ledger(metadata: Mapping[str, Any]) -> str | None:
    """Return the id of the ledger; None if the metadata does not say it."""
    ledger = metadata.get(LEDGER)
    return None if ledger is None else str(ledger)


def marked_key(metadata: Mapping[str, Any]) -> str:
    """Return the key of the object; empty if the metadata does not say it."""
    return unquote(str(metadata.get(KEY, "")))


def without_marks(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata that an object has beside the marks."""
    return {name: value for name, value in metadata.items() if name not in (LEDGER, KEY)}
