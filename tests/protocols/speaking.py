"""How a client of each protocol begins an upload, asks for it, brings bytes and cancels; and how it reads the answers."""

from __future__ import annotations

import json
from collections.abc import Callable

from attrs import frozen

from tests.protocols.harness import Answer

Asked = tuple[str, str, list[str], bytes]

TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
PARTIAL = "Content-Type: application/partial-upload"
VERSION = "Upload-Draft-Interop-Version: 9"
QUERY = "Content-Range: bytes */*"


@frozen
class File:
    """What a client knows of its upload.

    :ivar begun: the protocol.
    :ivar id: of the upload.
    :ivar length: bytes, as they were said at the beginning; None: they were not.
    """

    begun: str
    name: str
    data: bytes
    length: int | None
    id: str = ""


@frozen
class Bytes:
    """A range ``[first, end)`` that is brought; `last`: the request says that the file ends there."""

    first: int
    end: int
    last: bool


# Beginning: without bytes, but for put, which has no other way


def begin(file: File) -> Asked:
    """The request that begins an upload."""
    length, name = file.length, file.name
    if file.begun == "tus":
        said = "Upload-Defer-Length: 1" if length is None else f"Upload-Length: {length}"
        return "POST", "/files/", [TUS, said, f"Upload-Metadata: filename {_base64(name)}"], b""
    if file.begun == "ietf":
        said = [] if length is None else [f"Upload-Length: {length}"]
        return "POST", f"/upload/{name}", ["Upload-Complete: ?0", *said], b""
    if file.begun == "session":
        return "POST", "/uploads", [], json.dumps({"name": name, "length": len(file.data)}).encode()
    if file.begun == "google":
        return "POST", f"/upload/{name}?uploadType=resumable", [], b"{}"
    if file.begun == "goog-upload":
        said = [] if length is None else [f"X-Goog-Upload-Header-Content-Length: {length}"]
        return "POST", f"/upload/{name}", ["X-Goog-Upload-Command: start", *said], b""
    if file.begun == "vimeo":
        return "POST", "/vimeo/me/videos", [], f"type=streaming&name={name}".encode()
    return bring("put", file, Bytes(0, 1, last=len(file.data) == 1))


def begun_id(protocol: str, answer: Answer) -> str:
    """The id in the answer to `begin`; nothing where it is not told there (put)."""
    if protocol == "vimeo":
        ticket: str = answer.json["ticket_id"]
        return ticket
    url = answer.header("X-Goog-Upload-URL") or answer.header("Location") or ""
    return url.rpartition("/")[2].rpartition("upload_id=")[2].partition("&")[0]


def _base64(text: str) -> str:
    from base64 import b64encode

    return b64encode(text.encode()).decode()


# Going on


def bring(view: str, file: File, what: Bytes) -> Asked:
    """The request that brings a range of the file."""
    total = len(file.data) if what.last or file.length is not None else None
    body = file.data[what.first : what.end]
    if view in ("put", "session", "google"):
        said = f"Content-Range: bytes {what.first}-{what.end - 1}/{'*' if total is None else total}"
        return "PUT", _url(view, file), [said], body
    if view == "vimeo":
        size = len(file.data)
        return "PUT", _url(view, file), [f"Content-Range: bytes {what.first}-{size}/{size}"], body
    if view == "tus":
        ends = [f"Upload-Length: {total}"] if what.last and file.length is None else []
        return "PATCH", _url(view, file), [TUS, BYTES, f"Upload-Offset: {what.first}", *ends], body
    if view == "ietf":
        said = f"Upload-Complete: {'?1' if what.last else '?0'}"
        return "PATCH", _url(view, file), [VERSION, PARTIAL, f"Upload-Offset: {what.first}", said], body
    command = "upload, finalize" if what.last else "upload"
    return (
        "POST",
        _url(view, file),
        [f"X-Goog-Upload-Command: {command}", f"X-Goog-Upload-Offset: {what.first}"],
        body,
    )


def ask(view: str, file: File) -> Asked:
    """The request that asks how far the upload is."""
    if view == "tus":
        return "HEAD", _url(view, file), [TUS], b""
    if view == "ietf":
        return "HEAD", _url(view, file), [VERSION], b""
    if view == "goog-upload":
        return "POST", _url(view, file), ["X-Goog-Upload-Command: query"], b""
    return "PUT", _url(view, file), [QUERY], b""


def cancel(view: str, file: File) -> Asked | None:
    """The request that cancels the upload; None where the view has none."""
    if view == "vimeo":
        return None
    if view == "goog-upload":
        return "POST", _url(view, file), ["X-Goog-Upload-Command: cancel"], b""
    return "DELETE", _url(view, file), {"tus": [TUS], "ietf": [VERSION]}.get(view, []), b""


def _url(view: str, file: File) -> str:
    return {
        "put": f"/upload/{file.name}",
        "session": f"/uploads/{file.id}",
        "tus": f"/files/{file.id}",
        "ietf": f"/files/{file.id}",
        "google": f"/upload/{file.name}?upload_id={file.id}",
        "goog-upload": f"/upload/{file.name}?upload_id={file.id}",
        "vimeo": f"/vimeo/upload/{file.id}",
    }[view]


# Reading answers


@frozen
class Told:
    """What an answer tells of an upload.

    :ivar offset: bytes; None: nothing is told of that.
    :ivar finished: whether it says that the object is made.
    """

    offset: int | None
    finished: bool


def read_answer(view: str, file: File, asked: Asked, what: Bytes | None, answer: Answer) -> Told:
    """What a client takes from a successful answer to `ask` (`what` is None) or `bring`."""
    return _READ[view](file, what, answer)


def _of_ranges(file: File, what: Bytes | None, answer: Answer) -> Told:
    if answer.status == 200:
        return Told(len(file.data), finished=True)
    said = answer.header("Range")
    return Told(0 if said is None else int(said.rpartition("-")[2]) + 1, finished=False)


def _of_session(file: File, what: Bytes | None, answer: Answer) -> Told:
    """Of an upload that many write, what is told first begins at 0, or is not the offset."""
    said = (answer.header("Range") or "").removeprefix("bytes=").partition(",")[0]
    if answer.status != 200 and said and not said.startswith("0-"):
        return Told(0, finished=False)
    if answer.status != 200 and said:
        return Told(int(said.partition("-")[2]) + 1, finished=False)
    return _of_ranges(file, what, answer)


def _of_vimeo(file: File, what: Bytes | None, answer: Answer) -> Told:
    if what is None:
        return Told(int((answer.header("Range") or "").rpartition("-")[2]), finished=False)
    return Told(what.end, finished=what.end == len(file.data))


def _of_tus(file: File, what: Bytes | None, answer: Answer) -> Told:
    """A client is done when it has brought all; HEAD tells that by the length."""
    offset = int(answer.header("Upload-Offset") or "")
    if what is None:
        return Told(offset, finished=answer.header("Upload-Length") == str(offset))
    by_length = file.length is not None or what.last
    return Told(offset, finished=by_length and offset == len(file.data))


def _of_ietf(file: File, what: Bytes | None, answer: Answer) -> Told:
    return Told(int(answer.header("Upload-Offset") or ""), finished=answer.header("Upload-Complete") == "?1")


def _of_goog_upload(file: File, what: Bytes | None, answer: Answer) -> Told:
    offset = int(answer.header("X-Goog-Upload-Size-Received") or "")
    return Told(offset, finished=answer.header("X-Goog-Upload-Status") == "final")


_READ: dict[str, Callable[[File, Bytes | None, Answer], Told]] = {
    "put": _of_ranges,
    "google": _of_ranges,
    "session": _of_session,
    "vimeo": _of_vimeo,
    "tus": _of_tus,
    "ietf": _of_ietf,
    "goog-upload": _of_goog_upload,
}
VIEWS = tuple(_READ)
