"""The protocols that there are, in the order in which they are asked whether a request speaks them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from resumable.callbacks.authorizer import Authorizer
from resumable.protocols import form, goog_upload, google, ietf, put, segments, session, tus, vimeo
from resumable.protocols.access import Gate
from resumable.protocols.base import MakesForOthers, Prepares, Protocol
from resumable.protocols.results import Results
from resumable.uploads.service import UploadService

#: Makes a protocol. A new one is a line here, and a name in `resumable.settings.schema`.
Make = Callable[[Gate, Results], Protocol]

#: The first that matches a request serves it: what speaks by its headers comes before what speaks by its URL alone.
PROTOCOLS: Sequence[tuple[str, Make]] = (
    (goog_upload.NAME, goog_upload.GoogUploadProtocol),
    (google.NAME, google.GoogleProtocol),
    (segments.NAME, segments.SegmentsProtocol),
    (ietf.NAME, ietf.IetfProtocol),
    (session.NAME, session.SessionProtocol),
    (tus.NAME, tus.TusProtocol),
    (vimeo.NAME, vimeo.VimeoProtocol),
    (form.NAME, form.FormProtocol),
    (put.NAME, put.PutProtocol),
)


def make_protocols(
    enabled: Collection[str],
    uploads: UploadService,
    authorizer: Authorizer,
    results: Results,
    *,
    downloads: bool = False,
) -> list[Protocol]:
    """Return the protocols that are enabled, in the order in which they are asked.

    :param enabled: their names.
    :param downloads: whether GET of a finished upload leads to its object.
    """
    protocols = [
        make(Gate(uploads, authorizer, name, downloads=downloads), results)
        for name, make in PROTOCOLS
        if name in enabled
    ]
    for protocol in protocols:
        if isinstance(protocol, MakesForOthers):
            protocol.make_for(other for other in protocols if isinstance(other, Prepares))
    return protocols
