"""The protocol `form`: HTML forms with files (``multipart/form-data``, RFC 7578)."""

from __future__ import annotations

from resumable.protocols.form.protocol import NAME, FormProtocol

__all__ = ["NAME", "FormProtocol"]
