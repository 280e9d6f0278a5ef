"""Vimeo's upload APIs: the old streaming one, and tickets for uploads that go on with tus."""

from __future__ import annotations

from resumable.protocols.vimeo.protocol import NAME, VimeoProtocol

__all__ = ["NAME", "VimeoProtocol"]
