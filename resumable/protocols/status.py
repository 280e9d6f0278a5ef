"""``/uploads/<id>``: any upload as JSON, for people and dashboards; its going on, and its cancelling."""

from __future__ import annotations

from resumable.callbacks.authorizer import Authorizer
from resumable.model import State
from resumable.protocols.access import ask_for
from resumable.protocols.messages import Request, json_response
from resumable.protocols.response import Response, problem
from resumable.protocols.sessions import Sessions
from resumable.uploads.result import as_json
from resumable.uploads.service import UploadService


class StatusPages:
    """Looks at uploads by id and cancels them, whatever protocol they were born with."""

    def __init__(self, uploads: UploadService, authorizer: Authorizer, sessions: Sessions) -> None:
        self._uploads = uploads
        self._authorizer = authorizer
        self._sessions = sessions

    async def serve(self, request: Request, path: bytes) -> Response:
        """Answer a request for ``/uploads/<path>``.

        :raises UploadError: what `resumable.protocols.messages.error_response` turns into an answer.
        :raises Refused: the main application has said no.
        """
        upload_id = path.decode("latin-1")
        if request.method in (b"GET", b"HEAD"):
            grant = await self._authorizer.authorize(ask_for(request, "status", upload_id=upload_id))
            upload = await self._uploads.get(upload_id, grant.owner)
            # One that was given up is gone; for people, what it was is said all the same.
            status = 410 if upload.state in (State.CANCELLED, State.EXPIRED) else 200
            return json_response(status, as_json(await self._uploads.report(upload)))
        if request.method == b"DELETE":
            grant = await self._authorizer.authorize(ask_for(request, "cancel", upload_id=upload_id))
            await self._uploads.cancel(await self._uploads.get(upload_id, grant.owner))
            return Response(204)
        if request.method == b"PUT":
            return await self._sessions.put(request, upload_id)
        allow = {"Allow": "GET, HEAD, PUT, DELETE"}
        return problem(405, "use GET to look at an upload, PUT to go on with it, DELETE to cancel it", allow)
