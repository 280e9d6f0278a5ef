"""``/uploads/<id>``: any upload as JSON, for people and dashboards, and its cancelling."""

from __future__ import annotations

from resumable.callbacks.authorizer import Authorizer
from resumable.model import State
from resumable.protocols.door import ask_for
from resumable.protocols.messages import Request, json_response
from resumable.protocols.response import Response, problem
from resumable.uploads.desk import Desk
from resumable.uploads.result import as_json


class StatusPages:
    """Looks at uploads by id and cancels them, whatever protocol they were born with."""

    def __init__(self, desk: Desk, door: Authorizer) -> None:
        self._desk = desk
        self._door = door

    async def serve(self, request: Request, path: bytes) -> Response:
        """Answer a request for ``/uploads/<path>``.

        :raises UploadError: what `resumable.protocols.messages.error_response` turns into an answer.
        :raises Refused: the main application has said no.
        """
        upload_id = path.decode("latin-1")
        if request.method in (b"GET", b"HEAD"):
            grant = await self._door.authorize(ask_for(request, "status", upload_id=upload_id))
            upload = await self._desk.get(upload_id, grant.owner)
            # One that was given up is gone; for people, what it was is said all the same.
            status = 410 if upload.state in (State.CANCELLED, State.EXPIRED) else 200
            return json_response(status, as_json(await self._desk.report(upload)))
        if request.method == b"DELETE":
            grant = await self._door.authorize(ask_for(request, "cancel", upload_id=upload_id))
            await self._desk.cancel(await self._desk.get(upload_id, grant.owner))
            return Response(204)
        return problem(405, "use GET to look at an upload, DELETE to cancel it", {"Allow": "GET, HEAD, DELETE"})
