"""Clients that wait for the application, an application that is asked before an upload is, and receivers of tusd's hooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.loop import DATA
from tests.harness import Service, eventually
from tests.receiver import SECRET, Heard, Receiver, Reply
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

BOTH = ["upload.created", "upload.finished"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        yield started
        assert started.wrong == []


def waiting(s3: MotoServer, receiver: Receiver, **events: Any) -> dict[str, Any]:
    said = {"url": receiver.url, "secret": SECRET, "types": BOTH, "timeout": "1s", "wait": True, **events}
    return configuration(s3, events=said)


def reply(status: int, value: Any) -> Reply:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


@pytest.fixture
def service(s3: MotoServer, receiver: Receiver, tmp_path: Path) -> Iterator[Service]:
    with Service(tmp_path, waiting(s3, receiver)) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_the_client_gets_the_applications_answer(
    service: Service, s3: MotoServer, receiver: Receiver, size: int
) -> None:
    """Its status, its content type, its body; the same when it asks again, and the application is told once."""

    def answer(heard: Heard) -> Reply:
        return reply(201, {"video": 42}) if heard.type == "upload.finished" else (204, {}, b"")

    receiver.answer = answer
    name = f"/upload/waits/{size}"
    said = service.request("PUT", name, None, DATA[:size])
    assert (said.status, said.json, said.headers["content-type"]) == (201, {"video": 42}, "application/json")
    again = service.request("PUT", name, {"Content-Range": "bytes */*"})
    assert (again.status, again.json) == (201, {"video": 42})
    assert [heard.type for heard in receiver.heard] == BOTH
    # The look at it is the service's own.
    assert service.request("GET", name).json["state"] == "finished"


def test_an_application_that_is_away(service: Service, s3: MotoServer, receiver: Receiver) -> None:
    """503; the object is safe, the event stays due, and asking again asks again."""

    def answer(heard: Heard) -> Reply | None:
        return None if heard.type == "upload.finished" else (204, {}, b"")

    receiver.answer = answer
    said = service.request("PUT", "/upload/away.bin", None, b"hello")
    assert said.status == 503
    assert "retry-after" in said.headers
    assert s3.boto3().get_object(Bucket=s3.bucket, Key="away.bin")["Body"].read() == b"hello"
    tried = len(receiver.heard)
    assert service.request("PUT", "/upload/away.bin", {"Content-Range": "bytes */*"}).status == 503
    assert len(receiver.heard) > tried
    receiver.answer = lambda heard: reply(200, "at last")
    said = service.request("PUT", "/upload/away.bin", {"Content-Range": "bytes */5"})
    assert (said.status, said.json) == (200, "at last")
    assert len({heard.id for heard in receiver.heard if heard.type == "upload.finished"}) == 1


def test_an_application_that_says_no_at_the_end(service: Service, s3: MotoServer, receiver: Receiver) -> None:
    """Its 4xx is the client's; an error of its own is not shown."""

    def finished(status: int, body: bytes) -> None:
        receiver.answer = lambda heard: (status if heard.type == "upload.finished" else 204, {}, body)

    finished(500, b"stack trace")
    said = service.request("PUT", "/upload/no.bin", None, b"hello")
    assert (said.status, b"stack trace" in said.body) == (503, False)
    finished(422, b"no video")
    said = service.request("PUT", "/upload/no.bin", {"Content-Range": "bytes */*"})
    assert (said.status, said.body) == (422, b"no video")
    finished(200, b"")
    assert service.request("PUT", "/upload/no.bin", {"Content-Range": "bytes */*"}).status == 200


def test_asked_before_an_upload_is_created(service: Service, s3: MotoServer, receiver: Receiver) -> None:
    """It may refuse, with its own words, and then there is nothing; and it may say where the object goes."""
    receiver.answer = lambda heard: reply(403, {"why": "not you"})
    said = service.request("PUT", "/upload/asked.bin", None, b"hello")
    assert (said.status, said.json) == (403, {"why": "not you"})
    assert service.request("GET", "/upload/asked.bin").status == 404
    assert receiver.heard[0].body["data"]["name"] == "asked.bin"
    receiver.answer = lambda heard: (500, {}, b"")
    assert service.request("PUT", "/upload/asked.bin", None, b"hello").status == 503
    assert service.request("GET", "/upload/asked.bin").status == 404
    s3.boto3().create_bucket(Bucket="elsewhere")
    changes = {"bucket": "elsewhere", "key": "videos/42.mp4", "metadata": {"user": "7"}}
    receiver.answer = lambda heard: reply(200, changes if heard.type == "upload.created" else {})
    assert service.request("PUT", "/upload/asked.bin", None, b"hello").status == 200
    found = s3.boto3().get_object(Bucket="elsewhere", Key="videos/42.mp4")
    assert found["Body"].read() == b"hello"
    assert found["Metadata"]["user"] == "7"
    created, finished = receiver.heard[-2:]
    assert (created.type, finished.type) == ("upload.created", "upload.finished")
    assert finished.body["data"]["key"] == "videos/42.mp4"
    assert created.upload == finished.upload
    for wrong in ({"key": 5}, {"key": "a\nb"}, {"key": ".resumable/x"}, {"metadata": ["a"]}, ["a"]):
        receiver.answer = lambda heard, wrong=wrong: reply(200, wrong)  # type: ignore[misc]
        assert service.request("PUT", "/upload/wrong.bin", None, b"hello").status in (400, 503)
        assert service.request("GET", "/upload/wrong.bin").status == 404


def test_who_is_refused_loses_nothing(service: Service, s3: MotoServer, receiver: Receiver) -> None:
    """An unfinished upload of the same name stays as it is when a new one in its place is not wanted."""
    receiver.answer = lambda heard: (204, {}, b"")
    part = {"Content-Range": "bytes 0-999/5000"}
    assert service.request("PUT", "/upload/stays.bin", part, DATA[:1000]).status == 308
    receiver.answer = lambda heard: (403, {}, b"")
    assert service.request("PUT", "/upload/stays.bin", None, b"another").status == 403
    asked = service.request("PUT", "/upload/stays.bin", {"Content-Range": "bytes */*"})
    assert (asked.status, asked.headers["range"]) == (308, "bytes=0-999")
    assert service.request("DELETE", "/upload/stays.bin").status == 204


# tusd's hooks


def hook(receiver: Receiver, number: int) -> tuple[str, dict[str, Any]]:
    body = receiver.heard[number].body
    assert body["Event"]["HTTPRequest"].keys() == {"Method", "URI", "RemoteAddr", "Header"}
    return body["Type"], body["Event"]["Upload"]


class TusdReceiver(Receiver):
    """Its bodies are of another form."""

    def __init__(self) -> None:
        super().__init__(secret=None)


def test_hooks_of_tusd(s3: MotoServer, tmp_path: Path) -> None:
    """Not waited for: post-create, post-finish and post-terminate, as tusd's receivers know them."""
    types = ["upload.created", "upload.finished", "upload.cancelled"]
    with (
        TusdReceiver() as receiver,
        Service(tmp_path, configuration(s3, events={"url": receiver.url, "format": "tusd", "types": types})) as service,
    ):
        result = service.request("PUT", "/upload/a/tusd.bin", {"Content-Type": "video/mp4"}, b"hello").json
        eventually(lambda: len(receiver.heard) == 2)
        kind, upload = hook(receiver, 0)
        assert (kind, upload["Offset"], upload["Size"], upload["SizeIsDeferred"]) == ("post-create", 0, 5, False)
        kind, upload = hook(receiver, 1)
        assert (kind, upload["ID"], upload["Offset"], upload["Size"]) == ("post-finish", result["id"], 5, 5)
        assert upload["Storage"] == {"Type": "s3store", "Bucket": s3.bucket, "Key": "a/tusd.bin"}
        assert upload["MetaData"] == {"filename": "a/tusd.bin", "filetype": "video/mp4"}
        assert (upload["IsPartial"], upload["IsFinal"], upload["PartialUploads"]) == (False, False, None)
        part = {"Content-Range": "bytes 0-2/*"}
        assert service.request("PUT", "/upload/deferred.bin", part, b"abc").status == 308
        service.request("DELETE", "/upload/deferred.bin")
        eventually(lambda: len(receiver.heard) == 4)
        kind, upload = hook(receiver, 3)
        assert (kind, upload["Offset"], upload["SizeIsDeferred"]) == ("post-terminate", 3, True)


def test_hooks_of_tusd_that_are_waited_for(s3: MotoServer, tmp_path: Path) -> None:
    """pre-create may reject and change, pre-finish speaks to the client; what is no answer of a hook is no answer."""
    with (
        TusdReceiver() as receiver,
        Service(tmp_path, waiting(s3, receiver, format="tusd", secret=None)) as service,
    ):
        own_words = {"StatusCode": 413, "Body": '{"message":"too big"}', "Header": {"Content-Type": "application/json"}}
        receiver.answer = lambda heard: reply(200, {"RejectUpload": True, "HTTPResponse": own_words})
        said = service.request("PUT", "/upload/t.bin", None, b"hello")
        assert (said.status, said.json) == (413, {"message": "too big"})
        assert hook(receiver, 0)[0] == "pre-create"
        receiver.answer = lambda heard: reply(200, {"RejectUpload": True})
        said = service.request("PUT", "/upload/t.bin", None, b"hello")
        assert (said.status, said.body.startswith(b"ERR_UPLOAD_REJECTED")) == (400, True)

        def answer(heard: Heard) -> Reply:
            if heard.body["Type"] == "pre-create":
                return reply(200, {"ChangeFileInfo": {"ID": "hooks/own-id", "MetaData": {"by": "hook"}}})
            return reply(200, {"HTTPResponse": {"Header": {"X-Video": "42"}}})

        receiver.answer = answer
        said = service.request("PUT", "/upload/t.bin", None, b"hello")
        assert (said.status, said.headers["x-video"], said.json["key"]) == (200, "42", "hooks/own-id")
        assert said.json["metadata"] == {"by": "hook"}
        assert [hook(receiver, number)[0] for number in (-3, -2, -1)] == ["post-create", "pre-finish", "post-finish"]
        assert receiver.heard[-2].id != receiver.heard[-1].id

        def fails(heard: Heard) -> Reply:
            return (200, {}, b"") if heard.body["Type"] == "pre-create" else (200, {}, b"<html>")

        receiver.answer = fails
        assert service.request("PUT", "/upload/u.bin", None, b"hello").status == 503
        receiver.answer = lambda heard: reply(200, {"HTTPResponse": {"StatusCode": 202, "Body": "done"}})
        said = service.request("PUT", "/upload/u.bin", {"Content-Range": "bytes */*"})
        assert (said.status, said.body) == (202, b"done")
        assert "Traceback" not in service.log
