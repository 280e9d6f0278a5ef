"""``GET`` of a finished upload: the way to its object in the store, for those who may read it (``download: redirect``)."""

from __future__ import annotations

from resumable.model import Ended, NotFound, State
from resumable.protocols.access import Gate
from resumable.protocols.messages import Request
from resumable.protocols.response import Response

#: Seconds for which the URL is valid: time to begin to read. What has begun goes on.
VALID = 300


async def download(gate: Gate, request: Request, upload_id: str) -> Response:
    """Return a redirect (303) to a URL of the store that is its own permission, for `VALID` seconds at most.

    An upload that is not finished is answered 404: there is nothing to read under this URL yet (RFC 9110, 15.5.5), which
    is what clients that load things understand. How far it is HEAD tells. No answer of this service is kept by a cache,
    and so this one is not either.

    :raises NotFound: downloads are off, or there is nothing to read.
    :raises Ended: the upload was given up, or its client has let go of it.
    :raises Unavailable: the store, the ledger or the application is in trouble.
    """
    if not gate.downloads:
        raise NotFound("what was uploaded is not served here")
    access = await gate.authorize(request, "download", upload_id=upload_id)
    upload = await access.get(upload_id)
    if upload.live:
        raise NotFound("the upload is not finished: there is nothing to read yet")
    if upload.partial:
        raise NotFound("a partial upload is not read by itself")
    if upload.state is not State.FINISHED or upload.nameless:
        raise Ended(upload.reason or "the upload has ended")
    return Response(303, headers={"Location": await access.download_url(upload, VALID)})
