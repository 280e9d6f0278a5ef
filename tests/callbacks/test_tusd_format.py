"""tusd's hooks: what its receivers are sent, compared with what tusd's documentation shows, and what their answers mean."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.web.http_headers import Headers

from resumable.callbacks.caller import Said
from resumable.callbacks.formats import STOPPED, OwnFormat, TusdFormat
from resumable.model import EVENTS, PROGRESS, Event, ObjectOptions, Piece, State, Upload
from resumable.protocols.tus.metadata import read_metadata
from resumable.uploads.coverage import Coverage
from resumable.uploads.events import SENT_METADATA, data_of, event_of
from resumable.uploads.result import Report

#: The example of a hook request in tusd's documentation ("Customization via hooks", Hook Requests and Responses), with the
#: storage that its S3Store supplies.
DOCUMENTED: dict[str, Any] = {
    "Type": "post-finish",
    "Event": {
        "Upload": {
            "ID": "5d892c228ec8d0451dfec588697e8930",
            "Size": 432724,
            "SizeIsDeferred": False,
            "Offset": 432724,
            "MetaData": {"filename": "Screenshot 2023-08-17 at 09.00.40 1.png", "filetype": "image/png"},
            "IsPartial": False,
            "IsFinal": False,
            "PartialUploads": None,
            "Storage": {
                "Type": "s3store",
                "Bucket": "my-upload-bucket",
                "Key": "my-prefix/14b1c4c77771671a8479bc0444bbc5ce",
            },
        },
        "HTTPRequest": {
            "Method": "PATCH",
            "URI": "/files/5d892c228ec8d0451dfec588697e8930",
            "RemoteAddr": "127.0.0.1:59395",
            "Header": {"Host": ["localhost:8080"], "Tus-Resumable": ["1.0.0"]},
        },
    },
}
SIZE = 432724


def written(pairs: dict[str, str]) -> str:
    """The pairs as tus clients write them."""
    return ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" if value else key for key, value in pairs.items()
    )


def of_tus(pairs: dict[str, str], **changes: Any) -> Upload:
    """An upload as the protocol tus makes it of such metadata."""
    said = read_metadata([written(pairs).encode()])
    upload = Upload(
        "5d892c228ec8d0451dfec588697e8930",
        "tus",
        "alice",
        said.name or "5d892c228ec8d0451dfec588697e8930",
        "my-upload-bucket",
        "my-prefix/14b1c4c77771671a8479bc0444bbc5ce",
        SIZE,
        6 << 20,
        created=1.0,
        updated=2.0,
        options=ObjectOptions(content_type=said.content_type, metadata=said.rest),
        remembered={"upload-metadata": said.written} if said.written else {},
    )
    return evolve(upload, **changes)


def hook(event: Event | None, *, waiting: bool = False) -> dict[str, Any]:
    assert event is not None
    read: dict[str, Any] = json.loads(TusdFormat().body(event, waiting=waiting))
    return read


def upload_in(event: Event | None, *, waiting: bool = False) -> dict[str, Any]:
    upload: dict[str, Any] = hook(event, waiting=waiting)["Event"]["Upload"]
    return upload


def progress(upload: Upload, offset: int) -> Event:
    return Event(upload.id, PROGRESS, data_of(Report(upload, Coverage.whole(offset))), 3.0)


FILE = DOCUMENTED["Event"]["Upload"]["MetaData"]


def test_the_documented_request() -> None:
    """All is as documented, down to the order of the fields, but for the client's request, of which nothing is kept."""
    sent = hook(event_of(of_tus(FILE, state=State.FINISHED, etag='"e"', finished=2.0)))
    assert sent["Event"]["HTTPRequest"] == {"Method": "", "URI": "", "RemoteAddr": "", "Header": {}}
    assert list(sent["Event"]["HTTPRequest"]) == list(DOCUMENTED["Event"]["HTTPRequest"])
    assert list(sent["Event"]["Upload"]) == list(DOCUMENTED["Event"]["Upload"])
    expected = {**DOCUMENTED, "Event": {**DOCUMENTED["Event"], "HTTPRequest": sent["Event"]["HTTPRequest"]}}
    assert sent == expected


def test_which_hook_it_is() -> None:
    upload = of_tus(FILE)
    kinds = {
        (state, waiting): hook(event_of(evolve(upload, state=state)), waiting=waiting)["Type"]
        for state in EVENTS
        for waiting in (False, True)
    }
    assert kinds == {
        (State.OPEN, False): "post-create",
        (State.OPEN, True): "pre-create",
        (State.FINISHED, False): "post-finish",
        (State.FINISHED, True): "pre-finish",
        **{
            (state, waiting): "post-terminate"
            for state in (State.CANCELLED, State.EXPIRED, State.FAILED)
            for waiting in (False, True)
        },
    }
    assert hook(progress(upload, 5))["Type"] == "post-receive"


def test_before_an_upload_is_created() -> None:
    """tusd's documentation: there is neither an id nor a storage then."""
    upload = upload_in(event_of(of_tus(FILE)), waiting=True)
    assert (upload["ID"], upload["Storage"], upload["Offset"], upload["Size"]) == ("", None, 0, SIZE)
    assert upload["MetaData"] == FILE


def test_how_far_it_is() -> None:
    upload = of_tus(FILE, length=None)
    told = upload_in(progress(upload, 500))
    assert (told["Size"], told["SizeIsDeferred"], told["Offset"]) == (0, True, 500)
    told = upload_in(progress(evolve(upload, length=SIZE), 500))
    assert (told["Size"], told["SizeIsDeferred"], told["Offset"]) == (SIZE, False, 500)
    told = upload_in(event_of(evolve(upload, state=State.CANCELLED), [Piece(0, 7, None, "e")]))
    assert (told["Size"], told["SizeIsDeferred"], told["Offset"]) == (0, True, 7)


@pytest.mark.parametrize(
    "pairs",
    [
        {},
        {"filename": "a.mp4", "filetype": "video/mp4", "project_id": "1234"},
        {"name": "a.mp4", "type": "video/mp4", "relativePath": "null"},
        {"filename": "a", "name": "b", "filetype": "x/y", "type": "z/w"},
        {"filename": "ü 1.png", "is_confidential": ""},
        {"project_id": "1234"},
    ],
)
def test_what_the_client_sent(pairs: dict[str, str]) -> None:
    """Every key that a client of tus has sent is there, and no other."""
    for event in (event_of(of_tus(pairs)), event_of(of_tus(pairs, state=State.FINISHED)), progress(of_tus(pairs), 1)):
        assert upload_in(event)["MetaData"] == pairs


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
        st.text(st.characters(exclude_categories=["C"], max_codepoint=0xFFFD), min_size=1, max_size=12),
        max_size=5,
    ).filter(lambda pairs: not {"name", "filename", "type", "filetype"} & pairs.keys())
)
def test_any_metadata(pairs: dict[str, str]) -> None:
    assert upload_in(event_of(of_tus(pairs)))["MetaData"] == pairs


def test_what_the_application_has_set() -> None:
    """It comes on top of what the client sent; capitals make no second key."""
    sent = of_tus({"filename": "a.mp4", "Project": "1"})
    options = evolve(sent.options, metadata={"project": "2", "by": "hook", "filename": "b.mp4"})
    told = upload_in(event_of(evolve(sent, options=options)))
    assert told["MetaData"] == {"filename": "b.mp4", "project": "2", "by": "hook"}


def test_other_protocols() -> None:
    """Name and type stand where tus clients put them. A name or a type that nobody gave is not there."""
    put = Upload("u", "put", "", "a/b.mp4", "bucket", "a/b.mp4", 5, 16, created=1.0, updated=1.0)
    assert upload_in(event_of(put))["MetaData"] == {"filename": "a/b.mp4"}
    options = ObjectOptions(content_type="video/mp4", metadata={"k": "v"})
    told = upload_in(event_of(evolve(put, options=options)))
    assert told["MetaData"] == {"filename": "a/b.mp4", "filetype": "video/mp4", "k": "v"}
    assert upload_in(event_of(evolve(put, name="u")))["MetaData"] == {}


@pytest.mark.parametrize(
    ("said", "partial", "final", "uploads"),
    [
        ({}, False, False, None),
        ({"concat": "partial"}, True, False, None),
        ({"concat": "final", "partial_uploads": ["b", "a", "b"]}, False, True, ["b", "a", "b"]),
    ],
)
def test_concatenation(said: dict[str, Any], partial: bool, final: bool, uploads: list[str] | None) -> None:
    event = event_of(of_tus(FILE, state=State.FINISHED))
    assert event is not None
    told = upload_in(evolve(event, data={**event.data, **said}))
    assert (told["IsPartial"], told["IsFinal"], told["PartialUploads"]) == (partial, final, uploads)


@pytest.mark.parametrize("sent", [{}, FILE])
def test_a_partial_upload_has_what_its_client_sent(sent: dict[str, str]) -> None:
    """What is stored with its object is the service's own, and no hook's business."""
    own = ObjectOptions(content_type="application/octet-stream", metadata={"resumable-ledger": "l"})
    event = event_of(of_tus(sent, state=State.FINISHED, options=own))
    assert event is not None
    assert upload_in(evolve(event, data={**event.data, "concat": "partial"}))["MetaData"] == sent


def test_our_own_format_has_the_result_alone() -> None:
    upload = of_tus(FILE, state=State.FINISHED)
    event = event_of(upload)
    assert event is not None
    assert SENT_METADATA in event.data
    told = json.loads(OwnFormat().body(event, waiting=False))["data"]
    assert told == {name: value for name, value in event.data.items() if name != SENT_METADATA}
    assert (told["id"], told["size"]) == (upload.id, SIZE)


# Answers to post-receive


def answered(answer: Any, event: Event | None = None) -> str | None:
    said = Said(200, Headers(), answer if isinstance(answer, bytes) else json.dumps(answer).encode())
    verdict = TusdFormat().verdict(event or progress(of_tus(FILE), 5), said, waiting=False)
    assert verdict.accepted
    return verdict.stop


def test_a_hook_that_stops_the_upload() -> None:
    """tusd's own example ("Interrupting Uploads")."""
    body = '{"message":"associated project is no longer available"}'
    http = {"StatusCode": 400, "Body": body, "Header": {"Content-Type": "application/json"}}
    assert answered({"HTTPResponse": http, "StopUpload": True}) == body


@pytest.mark.parametrize(
    "http", [None, [], "x", {}, {"Body": ""}, {"Body": 5}, {"Body": "a\nb"}, {"Body": "x" * 201}, {"Body": "\ud800"}]
)
def test_a_reason_that_cannot_be_used(http: Any) -> None:
    """The upload is stopped all the same."""
    assert answered({"HTTPResponse": http, "StopUpload": True}) == STOPPED


@pytest.mark.parametrize("answer", [b"", b" ", {}, {"StopUpload": False}, {"StopUpload": "true"}, {"StopUpload": 1}])
def test_a_hook_that_lets_it_go_on(answer: Any) -> None:
    assert answered(answer) is None


def test_no_other_hook_stops_an_upload() -> None:
    """tusd: this value is only respected for post-receive hooks."""
    assert answered({"StopUpload": True}, event_of(of_tus(FILE))) is None
