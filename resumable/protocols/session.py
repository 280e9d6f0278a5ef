"""The protocol `session`: ``POST /uploads`` makes an upload with a URL of its own, which many connections may write at once.

It also makes uploads for other protocols, whose clients are given the URL and need not create anything themselves.

``/uploads/<id>`` shows and cancels every upload, whatever protocol it was begun with, for people and dashboards.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import evolve

from resumable.model import Invalid, Rejected, State
from resumable.protocols import digests
from resumable.protocols.access import Action, Description, Gate
from resumable.protocols.base import Plain, Prepares, Spoken, Target
from resumable.protocols.content_range import parse_content_range
from resumable.protocols.messages import Request, json_response, read_json_object
from resumable.protocols.ranges import CHUNK_SIZE, Ranges
from resumable.protocols.response import Response, problem
from resumable.protocols.results import Results
from resumable.protocols.small_body import SmallBodies
from resumable.quoting import quote_briefly
from resumable.uploads import values
from resumable.uploads.result import as_json

NAME = "session"
PATH = b"/uploads"
#: The largest JSON that describes an upload (bytes).
MOST = 16 * 1024
#: What it may say.
KNOWN = ("name", "length", "content_type", "content_encoding", "metadata", "protocol")


class SessionProtocol(Plain):
    """Uploads that are known by their id."""

    name = NAME
    spoken = Spoken(
        methods=("GET", "HEAD", "POST", "PUT", "DELETE"),
        sent=("Content-Encoding", "Content-Range", *digests.SENT),
        read=("Range", CHUNK_SIZE, "Upload-Expires", *digests.READ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._ranges = Ranges(results)
        #: What is read before the main application has been asked.
        self._descriptions = SmallBodies()
        self._makes: dict[str, Prepares] = {NAME: self}

    def make_for(self, protocols: Iterable[Prepares]) -> None:
        """Make uploads also for these protocols."""
        self._makes.update((protocol.name, protocol) for protocol in protocols)

    def prepare(self, description: Description) -> Description:
        """See `resumable.protocols.base.Prepares`."""
        return evolve(description, swarm=True)

    def url_of(self, request: Request, upload_id: str) -> str:
        """See `resumable.protocols.base.Prepares`."""
        return f"{request.origin.base}/uploads/{upload_id}"

    def match(self, request: Request) -> Target | None:
        """Match ``/uploads``, and everything below it."""
        if request.path == PATH:
            return Target()
        below = request.path.startswith(PATH + b"/")
        return Target(upload_id=request.path[len(PATH) + 1 :].decode("latin-1")) if below else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if target.upload_id is None:
            return await self._begin(request)
        if request.method in (b"GET", b"HEAD"):
            return await self._show(request, target.upload_id)
        if request.method == b"PUT":
            return await self._put(request, target.upload_id)
        if request.method == b"DELETE":
            access = await self._gate.authorize(request, "cancel", upload_id=target.upload_id)
            await access.cancel(await access.get(target.upload_id))
            return Response(204)
        allow = {"Allow": "GET, HEAD, PUT, DELETE"}
        return problem(405, "use GET to look at an upload, PUT to go on with it, DELETE to cancel it", allow)

    async def _show(self, request: Request, upload_id: str) -> Response:
        access = await self._gate.authorize(request, "status", upload_id=upload_id)
        upload = await access.get(upload_id)
        # One that was given up is gone; for people, what it was is said all the same.
        status = 410 if upload.state in (State.CANCELLED, State.EXPIRED) else 200
        return json_response(status, as_json(await access.report(upload)))

    async def _begin(self, request: Request) -> Response:
        """Create an upload from JSON as `read_description` wants it. One of no bytes is finished at once."""
        if request.method != b"POST":
            return problem(405, "use POST to begin an upload", {"Allow": "POST"})
        # The name, which the main application is asked about, stands in the body.
        async with self._descriptions.of(request, MOST) as body:
            said = read_description(body)
            speaks = self._maker(NAME if said.protocol is None else said.protocol)
            said = speaks.prepare(evolve(said, protocol=speaks.name))
            access = await self._gate.authorize(request, "create", description=said)
            upload = await access.create(said)
            report = await (access.receive_nothing(upload) if said.length == 0 else access.report(upload))
            url = speaks.url_of(request, upload.id)
            answer = json_response(201, {**as_json(report), "url": url})
            headers = {"Location": url, CHUNK_SIZE: str(upload.alignment)}
            return Response(201, answer.body, (*answer.headers, *headers.items()))

    def _maker(self, name: str) -> Prepares:
        """Return the protocol that an upload is asked for.

        :raises Rejected: it is not spoken here, or its uploads are begun by its own clients alone.
        """
        if name not in self._makes:
            known = ", ".join(sorted(self._makes))
            raise Rejected(
                "protocol", f"protocol {quote_briefly(name)}: no upload can be made for it here; known are {known}"
            )
        return self._makes[name]

    async def _put(self, request: Request, upload_id: str) -> Response:
        """Take in a range, or say how far the upload is: ``Content-Range`` as in the protocol `put`."""
        brought = parse_content_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        if brought is None:
            raise Invalid("say Content-Range: bytes F-L/T to bring bytes, bytes */* to ask how far the upload is")
        action: Action = "status" if brought.query else "append"
        access = await self._gate.authorize(request, action, upload_id=upload_id, length=brought.total)
        upload = await access.get(upload_id)
        if brought.query:
            return await self._ranges.query(access, request, await access.report(upload), brought)
        return await self._ranges.put(access, request, upload, brought)


def read_description(body: bytes) -> Description:
    """Return what JSON says of an upload: ``name``, ``length``, and perhaps the others of `KNOWN`.

    :raises Invalid: it is not what it should be.
    """
    said = read_json_object(body)
    unknown = [name for name in said if name not in KNOWN]
    if unknown:
        raise Invalid(f"unknown: {quote_briefly(unknown[0])}; known are {', '.join(KNOWN)}")
    length = said.get("length")
    if type(length) is not int or length < 0:
        raise Rejected("length", "length is required, and is a number of bytes from 0 on")
    protocol = said.get("protocol")
    if protocol is not None and not isinstance(protocol, str):
        raise Rejected("protocol", "protocol is the name of a protocol")
    content_type, encoding, metadata = said.get("content_type"), said.get("content_encoding"), said.get("metadata")
    with values.from_client():
        return Description(
            values.check_name(said.get("name")),
            length,
            None if content_type in (None, "") else values.check_content_type(content_type),
            None if encoding is None else values.check_content_encoding(encoding),
            {} if metadata is None else values.check_metadata(metadata),
            protocol=protocol,
        )
