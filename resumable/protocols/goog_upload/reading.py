"""What Firebase's clients ask of an object: its metadata, also after an upload whose last answer they have not got.

Objects are one's own finished uploads of this protocol. They are neither listed, served nor changed.
"""

from __future__ import annotations

from resumable.model import NotFound
from resumable.protocols.access import Gate
from resumable.protocols.goog_upload.answers import error_response, stored_object
from resumable.protocols.goog_upload.places import StoredObject
from resumable.protocols.messages import Request, json_response
from resumable.protocols.names import parse_name
from resumable.protocols.response import Response


async def show_object(gate: Gate, request: Request, target: StoredObject) -> Response:
    """Return the metadata of an object.

    :raises NotFound: the caller has finished no upload of that name.
    """
    name = parse_name(target.name or b"")
    access = await gate.authorize(request, "status", name=name)
    try:
        upload = await access.find_finished(name)
    except NotFound:
        raise NotFound(f"No such object: {name}") from None
    if request.query.get("alt", ["json"])[-1] == "media":
        return error_response(404, "what was uploaded is not served here")
    return json_response(200, stored_object(await access.report(upload), target.bucket))
