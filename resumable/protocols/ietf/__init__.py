"""The protocol `ietf`: Resumable Uploads for HTTP (draft-ietf-httpbis-resumable-upload), in all its versions from 3 on."""

from __future__ import annotations

from resumable.protocols.ietf.protocol import NAME, IetfProtocol

__all__ = ["NAME", "IetfProtocol"]
