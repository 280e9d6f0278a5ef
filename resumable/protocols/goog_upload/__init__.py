"""X-Goog-Upload: the resumable uploads of Firebase, Gemini's files and Google Photos."""

from __future__ import annotations

from resumable.protocols.goog_upload.protocol import NAME, GoogUploadProtocol

__all__ = ["NAME", "GoogUploadProtocol"]
