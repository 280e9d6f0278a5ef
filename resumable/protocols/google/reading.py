"""What clients of Cloud Storage ask before and after an upload: is there such a bucket, and what is known of the object?

Objects are one's own finished uploads of this protocol. They are neither listed nor served.
"""

from __future__ import annotations

from resumable.model import NotFound, Upload
from resumable.protocols.access import Action, AuthorizedUploads, Gate
from resumable.protocols.google.conditions import check_conditions
from resumable.protocols.google.paths import GoogleTarget, bucket_of
from resumable.protocols.google.resources import bucket_resource, object_resource
from resumable.protocols.google.sessions import OBJECT
from resumable.protocols.google_errors import google_error
from resumable.protocols.google_object import generation_of
from resumable.protocols.messages import Request, json_response
from resumable.protocols.names import parse_name
from resumable.protocols.response import Response


class Reading:
    """Answers about buckets, and about objects that were uploaded."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def bucket(self, request: Request, target: GoogleTarget) -> Response:
        """Say that a bucket is there."""
        bucket = bucket_of(target)
        access = await self._gate.authorize(request, "status")
        access.check_bucket(bucket)
        return json_response(200, bucket_resource(bucket, request.origin.base))

    async def object(self, request: Request, target: GoogleTarget) -> Response:
        """Show the metadata of an object."""
        _, upload = await self._find(request, target, "status")
        if request.query.get("alt", ["json"])[-1] == "media":
            return google_error(404, "what was uploaded is not served here")
        return json_response(200, object_resource(upload, request.origin.base))

    async def delete(self, request: Request, target: GoogleTarget) -> Response:
        """Free the name of a finished upload. The object stays, for it is the application's, and the answer says so."""
        access, upload = await self._find(request, target, "cancel")
        await access.forget(upload)
        return Response(204, headers={OBJECT: "kept"})

    async def _find(self, request: Request, target: GoogleTarget, action: Action) -> tuple[AuthorizedUploads, Upload]:
        name = parse_name(target.object or b"")
        access = await self._gate.authorize(request, action, name=name)
        access.check_bucket(bucket_of(target))
        try:
            upload = await access.find_finished(name)
        except NotFound:
            raise NotFound(f"No such object: {bucket_of(target)}/{name}") from None
        check_conditions(request.query, generation_of(upload))
        return access, upload
