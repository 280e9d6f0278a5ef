"""Google's resumable uploads, as the clients of Cloud Storage, YouTube and Drive speak them."""

from __future__ import annotations

from resumable.protocols.google.paths import NAME
from resumable.protocols.google.protocol import GoogleProtocol

__all__ = ["NAME", "GoogleProtocol"]
