"""``Upload-Concat``: an upload that is part of another one, or is made of others (tus 1.0.0, "Concatenation"). Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from attrs import frozen

from resumable.model import Invalid
from resumable.quoting import quote_briefly

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


@frozen
class Concat:
    """What the header says.

    :ivar written: as it came.
    :ivar sources: the ids of the uploads that this one is made of; empty for one that is part of others.
    """

    written: str
    sources: tuple[str, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether the upload is part of others."""
        return not self.sources


def read_concat(lines: Sequence[bytes], path: str) -> Concat | None:
    """Return what ``Upload-Concat`` says; None without it.

    :param lines: the header's values.
    :param path: what precedes an upload's id in its URL's path. Whatever a proxy has put before it is skipped.
    :raises Invalid: it is neither ``partial`` nor ``final;`` and a list of URLs of uploads.
    """
    if not lines:
        return None
    try:
        written = b" ".join(lines).decode("ascii").strip()
    except UnicodeDecodeError:
        raise Invalid("Upload-Concat is not ASCII") from None
    if written == "partial":
        return Concat(written)
    kind, _, urls = written.partition(";")
    if kind.strip() != "final" or not urls.split():
        raise Invalid('Upload-Concat has to be "partial", or "final;" and the URLs of the partial uploads')
    return Concat(written, tuple(_id_of(url, path) for url in urls.split()))


def _id_of(url: str, path: str) -> str:
    try:
        _, found, upload_id = urlsplit(url).path.rpartition(path)
    except ValueError:
        found = upload_id = ""
    if not found or not _ID.match(upload_id):
        raise Invalid(f"Upload-Concat: {quote_briefly(url)} is not the URL of an upload")
    return upload_id
