"""The protocols that there are, in the order in which they are asked whether a request speaks them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from resumable.callbacks.authorizer import Authorizer
from resumable.protocols import google, put, session, tus
from resumable.protocols.access import Gate
from resumable.protocols.base import Protocol
from resumable.protocols.results import Results
from resumable.uploads.service import UploadService

#: Makes a protocol. A new one is a line here, and a name in `resumable.settings.schema`.
Make = Callable[[Gate, Results], Protocol]

#: The first that matches a request serves it: what speaks by its headers comes before what speaks by its URL alone.
PROTOCOLS: Sequence[tuple[str, Make]] = (
    (google.NAME, google.GoogleProtocol),
    (session.NAME, session.SessionProtocol),
    (tus.NAME, tus.TusProtocol),
    (put.NAME, put.PutProtocol),
)


def make_protocols(
    enabled: Collection[str],
    uploads: UploadService,
    authorizer: Authorizer,
    results: Results,
) -> list[Protocol]:
    """Return the protocols that are enabled, in the order in which they are asked.

    :param enabled: their names.
    """
    return [make(Gate(uploads, authorizer, name), results) for name, make in PROTOCOLS if name in enabled]
