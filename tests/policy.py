"""What the settings say about uploads where nobody has set anything."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from resumable.assembly import make_policy
from resumable.settings import parse_settings
from resumable.stores.port import StoreLimits
from resumable.uploads.policy import Policy

_DEFAULTS = make_policy(parse_settings("store: {bucket: bucket}\nauth: open", "the defaults", {}), StoreLimits())


def policy(bucket: str = "bucket", **changes: Any) -> Policy:
    """The defaults, changed."""
    return evolve(_DEFAULTS, bucket=bucket, **changes)
