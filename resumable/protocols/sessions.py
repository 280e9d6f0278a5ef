"""``POST /uploads``: an upload with a URL of its own, which many connections may write at once; and ``PUT`` to that URL."""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve
from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer

from resumable.callbacks.authorizer import Authorizer
from resumable.model import Invalid, Rejected
from resumable.protocols.access import Action, ask_for, asked_again, wish_of
from resumable.protocols.content_range import parse_content_range
from resumable.protocols.messages import Request, json_response
from resumable.protocols.ranges import CHUNK_SIZE, Ranges
from resumable.protocols.response import Response, problem
from resumable.protocols.small_body import SmallBodies
from resumable.quoting import quote_briefly
from resumable.uploads import values
from resumable.uploads.registry import Span
from resumable.uploads.result import as_json
from resumable.uploads.service import UploadService

PROTOCOL = "session"
#: Bytes of the JSON that describes an upload.
MOST = 16 * 1024
#: What it may say.
KNOWN = ("name", "length", "content_type", "content_encoding", "metadata")


@implementer(IPushProducer)
class Nothing:
    """The body of an empty object."""

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give nothing to `consumer`."""
        consumer.registerProducer(self, True)
        consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """Twisted's: there is nothing to wait with."""

    def resumeProducing(self) -> None:
        """Twisted's: there is nothing to go on with."""

    def stopProducing(self) -> None:
        """Twisted's: there is nothing to end."""


class Sessions:
    """Creates uploads that are known by their id, and takes their ranges in."""

    def __init__(self, uploads: UploadService, authorizer: Authorizer, ranges: Ranges) -> None:
        self._uploads = uploads
        self._authorizer = authorizer
        self._ranges = ranges
        #: What is read before the main application has been asked.
        self._descriptions = SmallBodies()

    async def create(self, request: Request, _path: bytes) -> Response:
        """Answer a request for ``/uploads``: JSON as `read_description` wants it.

        An upload of no bytes is finished at once.

        :raises UploadError: what `resumable.protocols.messages.error_response` turns into an answer.
        """
        if request.method != b"POST":
            return problem(405, "use POST to begin an upload", {"Allow": "POST"})
        # The name, which the main application is asked about, stands in the body.
        async with self._descriptions.of(request, MOST) as body:
            return await self._create(request, read_description(body))

    async def _create(self, request: Request, said: dict[str, Any]) -> Response:
        ask = evolve(
            ask_for(request, "create", name=said["name"], length=said["length"]), content_type=said["content_type"]
        )
        grant = await self._authorizer.authorize(ask)
        wanted = wish_of(request, grant, protocol=PROTOCOL, name=said["name"], length=said["length"])
        options = evolve(
            wanted.options,
            content_type=grant.content_type or said["content_type"],
            # (The request's own header is about the JSON.)
            content_encoding=grant.object.content_encoding or said["content_encoding"],
            metadata=values.overlaid(said["metadata"], grant.metadata),
        )
        upload = await self._uploads.create(evolve(wanted, swarm=True, options=options))
        if said["length"] == 0:
            confirm, nothing = asked_again(self._authorizer, ask, grant), Span(0, 0, last=True)
            report = await self._uploads.receive(upload, Nothing(), nothing, confirm=confirm, new=True)
        else:
            report = await self._uploads.report(upload)
        answer = json_response(201, as_json(report))
        headers = {"Location": f"{request.origin.base}/uploads/{upload.id}", CHUNK_SIZE: str(upload.chunk_size)}
        return Response(201, answer.body, (*answer.headers, *headers.items()))

    async def put(self, request: Request, upload_id: str) -> Response:
        """Answer a PUT to ``/uploads/<id>``: ``Content-Range`` as in the protocol `put`. Errors as `create`."""
        brought = parse_content_range(request.requestHeaders.getRawHeaders(b"content-range", []), request.length)
        if brought is None:
            raise Invalid("say Content-Range: bytes F-L/T to bring bytes, bytes */* to ask how far the upload is")
        action: Action = "status" if brought.query else "append"
        ask = ask_for(request, action, upload_id=upload_id, length=brought.total)
        grant = await self._authorizer.authorize(ask)
        upload = await self._uploads.get(upload_id, grant.owner)
        if brought.query:
            change = ask_for(request, "append", upload_id=upload_id, length=brought.total)
            return await self._ranges.query(await self._uploads.report(upload), brought, grant, change=change)
        return await self._ranges.put(request, upload, brought, ask=ask, grant=grant)


def read_description(body: bytes) -> dict[str, Any]:
    """The JSON that describes an upload: ``name``, ``length``, and perhaps ``content_type``, ``content_encoding`` (None if
    not said) and ``metadata``.

    :raises Invalid: it is not what it should be.
    """
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        raise Invalid("the body is not JSON") from None
    if not isinstance(said, dict):
        raise Invalid("the body is not a JSON object")
    unknown = [name for name in said if name not in KNOWN]
    if unknown:
        raise Invalid(f"unknown: {quote_briefly(unknown[0])}; known are {', '.join(KNOWN)}")
    length = said.get("length")
    if type(length) is not int or length < 0:
        raise Rejected("length", "length is required, and is a number of bytes from 0 on")
    content_type, encoding, metadata = said.get("content_type"), said.get("content_encoding"), said.get("metadata")
    with values.from_client():
        return {
            "name": values.check_name(said.get("name")),
            "length": length,
            "content_type": None if content_type in (None, "") else values.check_content_type(content_type),
            "content_encoding": None if encoding is None else values.check_content_encoding(encoding),
            "metadata": {} if metadata is None else values.check_metadata(metadata),
        }
