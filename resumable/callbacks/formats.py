"""How events are written, and how an application's answer is read: our own format, and that of tusd's HTTP hooks. Pure.

In our own format the body is ``{"type", "timestamp", "request_id", "data"}`` as in Standard Webhooks, and the answer is plain
HTTP. ``request_id`` is there where a request has brought the event about.

In tusd's format (tusd 2: its documentation, "Customization via hooks", and its package ``pkg/hooks``) the body is a
HookRequest. The answer is 2xx with a HookResponse as JSON, of which ``HTTPResponse``, ``RejectUpload``,
``ChangeFileInfo`` and ``StopUpload`` are understood.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from typing import Any, Protocol

from attrs import field, frozen

from resumable.callbacks.answers import read_changes
from resumable.callbacks.caller import MAX_ANSWER, CallFailure, Said
from resumable.model import PROGRESS, Event
from resumable.timestamps import rfc3339
from resumable.uploads.events import CREATED, FINISHED, REQUEST_ID, SENT_METADATA
from resumable.uploads.values import answer_headers, is_text, overlaid

#: The headers of an application's answer that are passed on to a client that waits.
PASSED_ON = (b"Content-Type", b"Location", b"Retry-After", b"WWW-Authenticate")
#: tusd's hooks by the event: where nobody waits for the answer, and where somebody does. Of other events it is told by
#: ``post-terminate``.
HOOKS = {
    CREATED: ("post-create", "pre-create"),
    FINISHED: ("post-finish", "pre-finish"),
    PROGRESS: ("post-receive", "post-receive"),
}
#: The reason of an upload that a hook has stopped, and the most characters that a reason of the hook's own may have.
STOPPED = "the application has stopped the upload"
LONGEST_REASON = 200


@frozen
class HookResult:
    """The application's deliberate answer to an event.

    :ivar accepted: whether it has taken the event; before an upload is created, whether the upload may be created.
    :ivar status: for a client that waits; None: the service's own. It is 400 or more where the event is not accepted.
    :ivar headers: for a client that waits.
    :ivar body: for a client that waits; None: the service's own.
    :ivar changes: what it changes of an upload that is about to be created: ``bucket``, ``key``, ``metadata``.
    :ivar unusable: what was left out of the answer because it could not be used; texts for the log.
    :ivar stop: why the upload is to be ended, for people; None: it goes on.
    """

    accepted: bool
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None
    changes: Mapping[str, Any] = field(factory=dict)
    unusable: tuple[str, ...] = ()
    stop: str | None = None


class Format(Protocol):
    """A way to write events and to read answers."""

    def body(self, event: Event, *, waiting: bool) -> bytes:
        """Return the event as a request's body.

        :param waiting: whether a client waits for the answer.
        """

    def verdict(self, event: Event, said: Said, *, waiting: bool) -> HookResult:
        """Return what an answer means.

        :param waiting: whether a client waits for the answer. Only then it may change what is about to be created.
        :raises CallFailure: the answer means nothing; the event has to be told again.
        """

    def told_twice(self, event: Event) -> bool:
        """Say whether the application, after it was asked for a client that waits, is told as when nobody waits."""


class OwnFormat:
    """Our own format, ``format: resumable``."""

    def body(self, event: Event, *, waiting: bool) -> bytes:
        """See `Format`."""
        data = {name: value for name, value in event.data.items() if name not in (SENT_METADATA, REQUEST_ID)}
        asked = {REQUEST_ID: event.data[REQUEST_ID]} if REQUEST_ID in event.data else {}
        return _json({"type": event.type, "timestamp": rfc3339(event.created, "microseconds"), **asked, "data": data})

    def verdict(self, event: Event, said: Said, *, waiting: bool) -> HookResult:
        """See `Format`. Status and body are passed on to the client. JSON may change an upload before it is created."""
        # 408 says that the application did not get our request. All but 2xx and 4xx say that something is broken.
        if not 200 <= said.status < 300 and (not 400 <= said.status < 500 or said.status == 408):
            raise CallFailure(f"answered {said.status}")
        passed = [(name.decode("ascii"), value) for name in PASSED_ON if (value := said.header(name)) is not None]
        headers, dropped = answer_headers(passed)
        accepted = 200 <= said.status < 300
        changes: Mapping[str, Any] = {}
        if accepted and waiting and event.type == CREATED:
            changes = _changes(_read_object(said)) if said.body.strip() else {}
        return HookResult(accepted, said.status, headers, said.body[:MAX_ANSWER], changes, _left_out(dropped))

    def told_twice(self, event: Event) -> bool:
        """See `Format`."""
        return False


class TusdFormat:
    """tusd's format, ``format: tusd``: existing receivers of tusd's hooks work unchanged."""

    def body(self, event: Event, *, waiting: bool) -> bytes:
        """See `Format`."""
        kind = HOOKS.get(event.type, ("post-terminate", "post-terminate"))[waiting]
        data = event.data
        length = data.get("size", data.get("length"))
        concat = data.get("concat")
        # Before it is created an upload of tusd has neither an id nor a place. Here the answer may still choose the place.
        to_be = kind == "pre-create"
        upload = {
            "ID": "" if to_be else data["id"],
            "Size": length or 0,
            "SizeIsDeferred": length is None,
            "Offset": data.get("offset", length),
            "MetaData": _metadata(data),
            "IsPartial": concat == "partial",
            "IsFinal": concat == "final",
            "PartialUploads": list(data.get("partial_uploads") or ()) if concat == "final" else None,
            "Storage": None if to_be else {"Type": "s3store", "Bucket": data["bucket"], "Key": data["key"]},
        }
        # The client's request is not kept: its headers hold credentials.
        request = {"Method": "", "URI": "", "RemoteAddr": "", "Header": {}}
        return _json({"Type": kind, "Event": {"Upload": upload, "HTTPRequest": request}})

    def verdict(self, event: Event, said: Said, *, waiting: bool) -> HookResult:
        """See `Format`."""
        if not 200 <= said.status < 300:
            raise CallFailure(f"answered {said.status}")
        reply = _read_object(said) if said.body.strip() else {}
        if event.type == PROGRESS:
            return HookResult(True, stop=_reason(reply) if reply.get("StopUpload") is True else None)
        status, headers, body, unusable = _response(reply.get("HTTPResponse"))
        rejected = event.type == CREATED and reply.get("RejectUpload") is True
        if rejected and (status is None or status < 400):
            status, body = 400, body or b"ERR_UPLOAD_REJECTED: upload creation has been rejected by server\n"
        changes = _changes(_changed_file(reply)) if waiting and event.type == CREATED and not rejected else {}
        return HookResult(not rejected, status, headers, body, changes, unusable)

    def told_twice(self, event: Event) -> bool:
        """See `Format`. ``pre-finish`` is followed by ``post-finish``; many receivers know the latter alone."""
        return event.type == FINISHED


def _metadata(data: Mapping[str, Any]) -> dict[str, str]:
    """Return the upload's metadata as tusd's receivers know it: what the client sent, and what the application has set.

    A client of tus has sent Upload-Metadata. For all others name and content type are put under the names that tus
    clients give them. The object of a partial upload is the service's own, and so is what is stored with it.
    """
    sent = data.get(SENT_METADATA)
    if data.get("concat") == "partial":
        return _decoded(sent) if sent else {}
    if sent is not None:
        return overlaid(_decoded(sent), data["metadata"])
    # An upload whose client gave no name is called by its id.
    named = {"filename": data["name"]} if data["name"] != data["id"] else {}
    typed = {"filetype": data["content_type"]} if data["content_type"] else {}
    return overlaid({**named, **typed}, data["metadata"])


def _decoded(sent: str) -> dict[str, str]:
    """Return the pairs in the value of Upload-Metadata, which was checked when it came."""
    pairs = (entry.strip().partition(" ") for entry in sent.split(","))
    return {key: b64decode(encoded.strip()).decode("utf-8", "replace") for key, _, encoded in pairs}


def _reason(reply: Mapping[str, Any]) -> str:
    """Return why a hook stops an upload: the body that tusd would give to the client, if it is a short line."""
    http = reply.get("HTTPResponse")
    said = http.get("Body") if isinstance(http, dict) else None
    line = said.strip() if isinstance(said, str) else ""
    return line if line and len(line) <= LONGEST_REASON and is_text(line) else STOPPED


def _response(http: object) -> tuple[int | None, tuple[tuple[str, str], ...], bytes | None, tuple[str, ...]]:
    """Return what tusd's HTTPResponse says to a client (status, headers, body), and what was left out of it.

    The receiver has taken the event, whatever the response holds. To tell it again would not make the answer better.
    """
    if http is None:
        return None, (), None, ()
    if not isinstance(http, dict):
        return None, (), None, ("HTTPResponse, which is not an object",)
    unusable = []
    status, body, fields = http.get("StatusCode"), http.get("Body"), http.get("Header")
    if type(status) is not int or not 200 <= status <= 599:
        # Go writes 0 for a status that was not set.
        if status not in (None, 0):
            unusable.append("HTTPResponse.StatusCode, which is not from 200 to 599")
        status = None
    if not isinstance(body, str | None):
        unusable.append("HTTPResponse.Body, which is not a text")
        body = None
    if not isinstance(fields, dict | None):
        unusable.append("HTTPResponse.Header, which is not an object")
        fields = None
    headers, dropped = answer_headers((fields or {}).items())
    # "replace", since a lone surrogate cannot be encoded.
    content = body.encode("utf-8", "replace") if body else None
    return status, headers, content, (*unusable, *_left_out(dropped))


def _changed_file(reply: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what tusd's ChangeFileInfo changes."""
    change = _part(reply, "ChangeFileInfo")
    storage = _part(change, "Storage")
    # In tusd an upload's id is the object's key.
    key = storage.get("Key") or change.get("ID") or None
    return {"bucket": storage.get("Bucket") or None, "key": key, "metadata": change.get("MetaData")}


def _left_out(names: tuple[str, ...]) -> tuple[str, ...]:
    return (f"the header {', '.join(names[:10])}",) if names else ()


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = whole.get(name) or {}
    if not isinstance(part, dict):
        raise CallFailure("gave an answer that cannot be used", f"{name} is not an object", unusable=True)
    return part


def _changes(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer changes of an upload that is about to be created.

    :raises CallFailure: a value is not of its kind.
    """
    try:
        return read_changes(said)
    except ValueError as error:
        raise CallFailure("gave an answer that cannot be used", str(error), unusable=True) from None


def _read_object(said: Said) -> Mapping[str, Any]:
    try:
        if len(said.body) > MAX_ANSWER:
            raise ValueError(f"longer than {MAX_ANSWER} bytes")
        read = json.loads(said.body.decode("utf-8-sig"))
        if not isinstance(read, dict):
            raise ValueError("not a JSON object")
    except (ValueError, RecursionError) as error:
        raise CallFailure("gave an answer that cannot be used", str(error), unusable=True) from None
    return read


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")
