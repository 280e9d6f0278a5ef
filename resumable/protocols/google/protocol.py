"""Google's uploads on the wire: what a request is about, who serves it, and how errors are written."""

from __future__ import annotations

from resumable.model import Invalid, TakenOver, UploadError
from resumable.protocols import digests
from resumable.protocols.access import Gate
from resumable.protocols.base import Spoken, Target
from resumable.protocols.google.answers import EXPIRES, OVERRIDE, STORED_LENGTH, UPLOAD_ID, Answers
from resumable.protocols.google.errors import render_google_error
from resumable.protocols.google.paths import NAME, GoogleTarget, Kind, find_target
from resumable.protocols.google.reading import Reading
from resumable.protocols.google.sessions import OBJECT, Sessions
from resumable.protocols.google.simple import SimpleUploads
from resumable.protocols.google_errors import google_error
from resumable.protocols.messages import Request
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.protocols.small_body import SmallBodies


class GoogleProtocol:
    """Uploads as the clients of Cloud Storage, YouTube and Drive bring them."""

    name = NAME
    spoken = Spoken(
        methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
        sent=(
            *("Content-Range", "X-Goog-Hash", "X-GUploader-No-308", "X-HTTP-Method-Override"),
            *("X-Upload-Content-Length", "X-Upload-Content-Type", "Slug", "GData-Version", "X-GData-Key"),
            *digests.SENT,
        ),
        read=("Range", UPLOAD_ID, OVERRIDE, EXPIRES, STORED_LENGTH, OBJECT, *digests.READ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        answers, descriptions = Answers(results), SmallBodies()
        self._sessions = Sessions(gate, answers, descriptions)
        self._simple = SimpleUploads(gate, answers, descriptions)
        self._reading = Reading(gate)

    def match(self, request: Request) -> Target | None:
        """Match what says ``uploadType`` or ``upload_id`` under ``/upload``, and the paths of Google's APIs."""
        return find_target(request)

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        assert isinstance(target, GoogleTarget)
        method = method_of(request)
        if target.kind is Kind.SESSION:
            return await self._session(request, target, method, target.upload_id or "")
        if target.kind is Kind.BEGIN:
            return await self._begin(request, target, method)
        if target.kind is Kind.BUCKET:
            if method in (b"GET", b"HEAD"):
                return await self._reading.bucket(request, target)
            return _not_allowed("GET, HEAD", "buckets are not changed here")
        if target.kind is Kind.OBJECT:
            return await self._object(request, target, method)
        return google_error(404, "there is no such thing here")

    async def _session(self, request: Request, target: GoogleTarget, method: bytes, upload_id: str) -> Response:
        if method in (b"PUT", b"POST"):
            return await self._sessions.put(request, target, upload_id)
        if method == b"DELETE":
            return await self._sessions.cancel(request, upload_id)
        return _not_allowed("PUT, POST, DELETE", "use PUT to go on with an upload, DELETE to cancel it")

    async def _begin(self, request: Request, target: GoogleTarget, method: bytes) -> Response:
        if method not in (b"POST", b"PUT"):
            return _not_allowed("POST, PUT", "use POST to begin an upload")
        if target.upload_type == "resumable":
            return await self._sessions.begin(request, target)
        if target.upload_type == "media":
            return await self._simple.media(request, target)
        if target.upload_type == "multipart":
            return await self._simple.multipart(request, target)
        raise Invalid("say uploadType=resumable, media or multipart")

    async def _object(self, request: Request, target: GoogleTarget, method: bytes) -> Response:
        if method in (b"GET", b"HEAD"):
            return await self._reading.object(request, target)
        if method == b"DELETE":
            return await self._reading.delete(request, target)
        if method == b"POST":
            raise Invalid("objects are neither copied nor composed here")
        return _not_allowed("GET, HEAD, DELETE", "objects are not changed here")

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if isinstance(error, TakenOver):
            # Clients give up after a 409; after this they ask how far the upload is, and go on.
            return google_error(503, str(error), {"Retry-After": "1"})
        return render_google_error(error)

    def decorate(self, request: Request, response: Response) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        return response


def method_of(request: Request) -> bytes:
    """Return the method that counts: a POST may stand for another one, which ``X-HTTP-Method-Override`` says."""
    override = request.requestHeaders.getRawHeaders(b"x-http-method-override", [])
    return override[-1].strip().upper() if override and request.method == b"POST" else request.method


def _not_allowed(allow: str, message: str) -> Response:
    return google_error(405, message, {"Allow": allow})
