"""Which protocol a request is for, where several could mean it: the order in which they are asked, row by row.

What a protocol makes of it is tested with the protocol; see `tests/protocols/ietf/test_dispatch.py` for the URLs that two share.
"""

from __future__ import annotations

from typing import Any

import pytest

from resumable.protocols.registry import PROTOCOLS, make_protocols
from resumable.protocols.results import Results
from resumable.web.head import read_head
from resumable.web.router import Router
from tests.protocols.harness import Door
from tests.protocols.test_registry import Untouched

TUS = "Tus-Resumable: 1.0.0"
BYTES = "Content-Type: application/offset+octet-stream"
PARTIAL = "Content-Type: application/partial-upload"
FORM = "Content-Type: multipart/form-data; boundary=b"
WHOLE = "Upload-Complete: ?1"
VERSION = "Upload-Draft-Interop-Version: 9"
START = "X-Goog-Upload-Command: start"
AT_ONCE = "X-Goog-Upload-Protocol: raw"
SESSION = "X-Session-ID: s"
RANGE = "Content-Range: bytes 0-4/9"
ASK = "Content-Range: bytes */*"
AS_PATCH = "X-HTTP-Method-Override: PATCH"
AS_DELETE = "X-HTTP-Method-Override: DELETE"
ANNOUNCED = "X-Upload-Content-Length: 5"

#: By what decides: method, target, header lines, and who serves it.
ROWS: dict[str, tuple[str, str, list[str], str]] = {
    # OPTIONS: of tus where tus is begun, of the draft where its uploads are created
    "options at tus": ("OPTIONS", "/files/", [], "tus"),
    "options at an upload of both": ("OPTIONS", "/files/id", [], "tus"),
    "options at creation": ("OPTIONS", "/upload/n", [], "ietf"),
    "options of all": ("OPTIONS", "*", [], "ietf"),
    "a browser's own question": ("OPTIONS", "/upload/n", ["Access-Control-Request-Method: PUT"], "put"),
    # The method that counts
    "tus by override": ("POST", "/files/id", [TUS, BYTES, AS_PATCH], "tus"),
    "ietf by override": ("POST", "/files/id", [PARTIAL, AS_PATCH], "ietf"),
    "a bare DELETE by override": ("POST", "/files/id", [AS_DELETE], "ietf"),
    "google by override": ("POST", "/upload/n?upload_id=id", [AS_DELETE], "google"),
    "an override that is none of a POST": ("PUT", "/files/id", [AS_DELETE], "tus"),
    # The command of goog-upload, before every query and header
    "command and uploadType": ("POST", "/upload/n?uploadType=resumable", [START], "goog-upload"),
    "command and upload_id": ("POST", "/upload/n?upload_id=id", ["X-Goog-Upload-Command: query"], "goog-upload"),
    "command and Upload-Complete": ("POST", "/upload/n", [START, WHOLE], "goog-upload"),
    "command and a form": ("POST", "/upload/n", [START, FORM], "goog-upload"),
    "command and a segment": ("POST", "/upload/n", [START, SESSION, RANGE], "goog-upload"),
    "command at Google's paths": ("POST", "/upload/storage/v1/b/b/o?name=n", [START], "goog-upload"),
    "command at tus": ("POST", "/files/", [START, TUS], "tus"),
    "command at a session": ("POST", "/uploads", [START], "session"),
    "upload protocol and a form": ("POST", "/upload/n", [AT_ONCE, FORM], "goog-upload"),
    "firebase without a command": ("GET", "/v0/b/b/o/n", [], "goog-upload"),
    # The query of Google's
    "uploadType and Upload-Complete": ("POST", "/upload/n?uploadType=resumable", [WHOLE], "google"),
    "uploadType and a form": ("POST", "/upload/n?uploadType=media", [FORM], "google"),
    "uploadType and a segment": ("POST", "/upload/n?uploadType=media", [SESSION, RANGE], "google"),
    "uploadType that is none": ("POST", "/upload/n?uploadType=other", [], "google"),
    "upload_protocol": ("POST", "/upload?upload_protocol=resumable", [], "google"),
    "upload_id and a range": ("PUT", "/upload/n?upload_id=id", [RANGE], "google"),
    "upload_id and nothing else": ("PUT", "/upload/n?upload_id=id", [], "google"),
    "upload_id and Upload-Complete": ("PUT", "/upload/n?upload_id=id", [WHOLE], "google"),
    "upload_id and tus": ("PUT", "/upload/n?upload_id=id", [TUS], "google"),
    "an empty upload_id": ("PUT", "/upload/n?upload_id=", [RANGE], "put"),
    "another query": ("PUT", "/upload/n?token=t", [RANGE], "put"),
    "uploadType at tus": ("POST", "/files/?uploadType=resumable", [TUS], "tus"),
    "uploadType at a session": ("POST", "/uploads?uploadType=resumable", [], "session"),
    "Google's paths without a query": ("POST", "/upload/youtube/v3/videos", [], "google"),
    # A URL that is an upload's: what the headers say of another protocol does not count
    "a session and tus": ("HEAD", "/uploads/id", [TUS], "session"),
    "a session and Upload-Complete": ("PUT", "/uploads/id", [WHOLE, RANGE], "session"),
    "a session and a version": ("GET", "/uploads/id", [VERSION], "session"),
    "a session and a segment": ("POST", "/uploads", [SESSION, RANGE], "session"),
    "vimeo and tus": ("PUT", "/vimeo/upload/id", [TUS, BYTES], "vimeo"),
    "vimeo and Upload-Complete": ("PUT", "/vimeo/upload/id", [WHOLE], "vimeo"),
    # /files/<id>: tus before the draft, and then whatever the draft says
    "tus and Upload-Complete": ("PATCH", "/files/id", [TUS, BYTES, WHOLE], "tus"),
    "tus and the draft's type": ("PATCH", "/files/id", [TUS, PARTIAL], "tus"),
    "a version of tus that is not spoken": ("PATCH", "/files/id", ["Tus-Resumable: 0.2.2", PARTIAL], "tus"),
    "the draft's type alone": ("PATCH", "/files/id", [PARTIAL], "ietf"),
    "the type of tus and Upload-Complete": ("PATCH", "/files/id", [BYTES, WHOLE], "ietf"),
    "the type of tus alone": ("PATCH", "/files/id", [BYTES], "tus"),
    "Upload-Incomplete": ("PATCH", "/files/id", ["Upload-Incomplete: ?0"], "ietf"),
    "Upload-Complete that is malformed": ("PATCH", "/files/id", ["Upload-Complete: yes"], "tus"),
    "HEAD and a version": ("HEAD", "/files/id", [VERSION], "ietf"),
    "HEAD and a version that nobody speaks": ("HEAD", "/files/id", ["Upload-Draft-Interop-Version: 99"], "ietf"),
    "a bare HEAD": ("HEAD", "/files/id", [], "tus"),
    "a bare GET": ("GET", "/files/id", [], "tus"),
    "GET and a version": ("GET", "/files/id", [VERSION], "ietf"),
    "a bare DELETE": ("DELETE", "/files/id", [], "ietf"),
    "DELETE and an offset": ("DELETE", "/files/id", ["Upload-Offset: 0"], "tus"),
    "DELETE and tus": ("DELETE", "/files/id", [TUS], "tus"),
    "a bare PUT to an id": ("PUT", "/files/id", [RANGE], "tus"),
    "creation of the draft's at tus": ("POST", "/files/", [WHOLE], "tus"),
    # /upload: creation of the draft's before all that is known by its URL
    "PUT and Upload-Complete": ("PUT", "/upload/n", [WHOLE], "ietf"),
    "PUT, Upload-Complete and a range": ("PUT", "/upload/n", [WHOLE, RANGE], "ietf"),
    "PUT and a malformed Upload-Complete": ("PUT", "/upload/n", ["Upload-Complete: 1"], "put"),
    "PUT and a version alone": ("PUT", "/upload/n", [VERSION], "put"),
    "PUT and Upload-Incomplete": ("PUT", "/upload/n", ["Upload-Incomplete: ?1"], "ietf"),
    "POST and Upload-Complete of a form": ("POST", "/upload/n", [FORM, WHOLE], "ietf"),
    "GET and Upload-Complete": ("GET", "/upload/n", [WHOLE], "put"),
    "DELETE and Upload-Complete": ("DELETE", "/upload/n", [WHOLE], "put"),
    "PATCH of a name with the draft's type": ("PATCH", "/upload/n", [PARTIAL], "put"),
    "tus at a name": ("PUT", "/upload/n", [TUS, WHOLE], "put"),
    # Announced by node-uploadx
    "announced": ("POST", "/upload/n", [ANNOUNCED], "google"),
    "announced, of a form": ("POST", "/upload", [ANNOUNCED, FORM], "google"),
    "announced by PUT": ("PUT", "/upload/n", [ANNOUNCED], "put"),
    "announced, and Upload-Complete": ("POST", "/upload/n", [ANNOUNCED, WHOLE], "google"),
    # Segments
    "a segment": ("POST", "/upload/n", [SESSION, RANGE], "segments"),
    "a segment of a form": ("POST", "/upload", [SESSION, RANGE, FORM], "segments"),
    "a segment and Upload-Complete": ("POST", "/upload/n", [SESSION, RANGE, WHOLE], "segments"),
    "a segment without its range": ("POST", "/upload/n", [SESSION], "put"),
    "a segment by PUT": ("PUT", "/upload/n", [SESSION, RANGE], "put"),
    # What is left
    "put": ("PUT", "/upload/n", [], "put"),
    "put asks": ("PUT", "/upload/n", [ASK], "put"),
    "put in a folder that sounds like another": ("PUT", "/upload/files/id", [RANGE], "put"),
    "a form": ("POST", "/upload/n", [FORM], "form"),
    "a POST that says nothing": ("POST", "/upload/n", [], "put"),
    "nothing": ("GET", "/nowhere", [], "pages"),
    "nearly an upload": ("PUT", "/uploadsn", [], "pages"),
    "nearly tus": ("POST", "/filesn", [TUS], "pages"),
}


@pytest.fixture(scope="module")
def router() -> Router:
    untouched: Any = Untouched()
    names = [name for name, _ in PROTOCOLS]
    return Router(make_protocols(names, untouched, Door(), Results()), {})


@pytest.mark.parametrize("row", ROWS)
def test_who_serves_it(router: Router, row: str) -> None:
    method, target, lines, name = ROWS[row]
    request = read_head("\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *lines, "", ""]).encode())
    assert request is not None
    protocol, _ = router._find(request)
    assert protocol.name == name


def test_every_protocol_has_a_row() -> None:
    """One that is added says here what of its requests could be another's."""
    assert {name for *_, name in ROWS.values()} - {"pages"} == {name for name, _ in PROTOCOLS}
