"""What was uploaded, and where it can be read: for the embedded store alone, which shows everything to everybody."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

from resumable.ledger.database import Database
from resumable.ledger.recent import newest_finished
from resumable.model import Unavailable, Upload
from resumable.protocols.messages import Request, json_response
from resumable.protocols.problems import render_problem
from resumable.protocols.response import Response, problem
from resumable.timestamps import rfc3339

#: The most uploads that are listed.
MOST = 100
#: Hosts by which only a machine nearby can be meant: an IP address, a name without a dot, and what no registry sells
#: (RFC 6761, 6762, 8375).
_NEARBY = re.compile(
    r"(?:\[[0-9a-f:.]+\]|\d+(?:\.\d+){3}|(?:[\w.-]+\.(?:localhost|local|lan|internal|home\.arpa)|[\w-]+)\.?)(?::\d+)?",
    re.ASCII | re.IGNORECASE,
)


class StoredPage:
    """Lists the newest objects.

    :param endpoint: the embedded store's URL.
    """

    def __init__(self, database: Database, endpoint: str) -> None:
        self._database = database
        self._endpoint = endpoint

    async def answer(self, request: Request) -> Response:
        """Answer GET with ``{"uploads": [{"id", "name", "size", "finished", "url"}]}``, the newest first."""
        if request.method not in (b"GET", b"HEAD"):
            return problem(405, "use GET", {"Allow": "GET, HEAD"})
        # A page that somebody has open in the same browser is not to read what lies on this machine.
        if request.requestHeaders.hasHeader(b"origin"):
            return problem(403, "only the service's own page may read this")
        # Nor one whose name has just been made to mean this machine (DNS rebinding): its requests look like our own page's.
        if not is_nearby(request.requestHeaders.getRawHeaders(b"host", [])):
            return problem(
                403, "this is shown only where the service is called by an address, or by a name without dots"
            )
        try:
            uploads = await newest_finished(self._database, MOST)
        except Unavailable as error:
            return render_problem(error)
        return json_response(200, {"uploads": [self._shown(upload) for upload in uploads]})

    def _shown(self, upload: Upload) -> dict[str, object]:
        return {
            "id": upload.id,
            "name": upload.name,
            "size": upload.length,
            "finished": None if upload.finished is None else rfc3339(upload.finished),
            "url": f"{self._endpoint}/{quote(upload.bucket)}/{quote(upload.key)}",
        }


def is_nearby(hosts: Sequence[bytes]) -> bool:
    """Say whether Host names a machine as only those near it can. A request without one comes from no browser.

    :param hosts: the header's values.
    """
    return all(_NEARBY.fullmatch(host.decode("latin-1").strip()) for host in hosts)
