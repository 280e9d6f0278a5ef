"""Every request of a running service is authorised: the cache, a word that runs out while a body streams, and owners."""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable, Iterator

import pytest

from tests.harness import Answer, Application, Client, Service
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

CHUNK = 6 << 20
DATA = random.Random(2).randbytes(2 * CHUNK + 1_000_000)
#: Seconds for which the application's word counts in the service called `brief`.
BRIEF = 0.3


@pytest.fixture(scope="module")
def brief(s3: MotoServer, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that remembers the application's word for a moment."""
    config = configuration(s3, auth={"url": application.url, "cache": f"{BRIEF}s"})
    with Service(tmp_path_factory.mktemp("brief"), config) as started:
        yield started
        assert "Traceback" not in started.log


@pytest.fixture(scope="module")
def usual(s3: MotoServer, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that remembers the application's word as long as it does by default."""
    with Service(tmp_path_factory.mktemp("usual"), configuration(s3, auth={"url": application.url})) as started:
        yield started


@pytest.fixture
def name() -> str:
    return f"{os.urandom(8).hex()}.bin"


def exists(s3: MotoServer, key: str) -> bool:
    return bool(s3.boto3().list_objects_v2(Bucket=s3.bucket, Prefix=key).get("KeyCount"))


def test_the_same_question_is_asked_once(usual: Service, application: Application, name: str) -> None:
    """By default a word counts for half a minute; for others, and about other things, it does not count at all."""
    for total in ("*", "*", "*"):
        usual.request("PUT", f"/upload/{name}", {"Content-Range": f"bytes */{total}", "Authorization": "alice"})
    assert len(application.asked) == 1
    usual.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*", "Authorization": "bob"})
    usual.request("PUT", f"/upload/{name}", {"Content-Range": "bytes */*"})
    usual.request("PUT", f"/upload/{name}x", {"Content-Range": "bytes */*", "Authorization": "alice"})
    assert [asked.get("authorization") for asked in application.asked] == ["alice", "bob", None, "alice"]
    application.refuse(403)
    headers = {"Content-Range": "bytes */*", "Authorization": "alice"}
    assert usual.request("PUT", f"/upload/{name}", headers).status == 404, "no such upload, as the word still says"
    assert usual.request("PUT", f"/upload/{name}", {**headers, "Authorization": "mallory"}).status == 403


def test_a_refusal_is_never_remembered(usual: Service, application: Application, name: str) -> None:
    application.refuse(401)
    assert usual.request("GET", f"/upload/{name}").status == 401
    application.grant()
    assert usual.request("GET", f"/upload/{name}").status == 404


def stream(service: Service, name: str, size: int, before_the_end: Callable[[], None]) -> Answer:
    """Upload with a pause before the last bytes, in which the word that let the client in runs out."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(size), "Authorization": "alice"})
        client.send(DATA[: size - 10])
        time.sleep(2 * BRIEF)
        before_the_end()
        client.send(DATA[size - 10 : size])
        return client.answer()


@pytest.mark.soak
@pytest.mark.parametrize("size", [1000, len(DATA)])
def test_a_word_that_has_run_out_finishes_nothing(
    brief: Service, application: Application, s3: MotoServer, name: str, size: int
) -> None:
    """The refusal is the client's answer, what was acknowledged stays, good credentials go on and finish."""
    answer = stream(brief, name, size, lambda: application.refuse(403, b"too late", **{"Content-Type": "text/plain"}))
    assert (answer.status, answer.body, answer.headers["content-type"]) == (403, b"too late", "text/plain")
    assert not exists(s3, name)
    application.grant()
    state = brief.request("GET", f"/upload/{name}").json
    assert (state["state"], state["length"]) == ("open", size)
    assert state["offset"] in ((0, CHUNK, 2 * CHUNK) if size > CHUNK else (0,))
    first = state["offset"]
    answer = brief.request(
        "PUT", f"/upload/{name}", {"Content-Range": f"bytes {first}-{size - 1}/{size}"}, DATA[first:size]
    )
    assert (answer.status, answer.json["id"]) == (200, state["id"])
    stored = s3.boto3().get_object(Bucket=s3.bucket, Key=name)["Body"].read()
    assert stored == DATA[:size]


def test_a_word_that_is_given_again_finishes(brief: Service, application: Application, name: str) -> None:
    """The very same question, once more; the answer to the first requests is long forgotten."""
    assert stream(brief, name, len(DATA), lambda: None).status == 200
    first, again = ({**asked, "x-request-id": ""} for asked in application.asked)
    assert first == again
    assert first["x-upload-action"] == "create"


def test_an_owner_that_has_changed_is_somebody_else(
    brief: Service, application: Application, s3: MotoServer, name: str
) -> None:
    application.grant(owner="alice")
    answer = stream(brief, name, 1000, lambda: application.grant(owner="bob"))
    assert (answer.status, answer.json["title"]) == (404, "Not Found")
    assert not exists(s3, f"bob/{name}")
    assert not exists(s3, f"alice/{name}")
    application.grant(owner="alice")
    assert brief.request("GET", f"/upload/{name}", {"Authorization": "x"}).json["state"] == "open"
    assert brief.request("DELETE", f"/upload/{name}", {"Authorization": "x"}).status == 204


def test_no_word_to_be_had_finishes_nothing(
    brief: Service, application: Application, s3: MotoServer, name: str
) -> None:
    """An application that is down when the last byte comes: 503, and later the upload goes on."""

    def down() -> None:
        application.answer = lambda _: (500, {}, b"")

    answer = stream(brief, name, 1000, down)
    assert (answer.status, "retry-after" in answer.headers) == (503, True)
    application.grant()
    assert not exists(s3, name)
    answer = brief.request("PUT", f"/upload/{name}", {"Content-Range": "bytes 0-999/1000"}, DATA[:1000])
    assert answer.status == 200


#: Methods, headers and bodies with which an upload that is not there cannot be begun.
REQUESTS: list[tuple[str, dict[str, str], bytes]] = [
    ("GET", {}, b""),
    ("HEAD", {}, b""),
    ("DELETE", {}, b""),
    ("PUT", {"Content-Range": "bytes */*"}, b""),
    ("PUT", {"Content-Range": "bytes */1000"}, b""),
    ("PUT", {"Content-Range": "bytes 400-999/1000"}, DATA[400:1000]),
    ("PUT", {"Content-Range": "bytes 400-499/*"}, DATA[400:500]),
    ("POST", {}, b""),
    ("PATCH", {}, b"x"),
    ("OPTIONS", {}, b""),
    ("BREW", {}, b""),
]


def answers(service: Service, url: str) -> list[bytes]:
    """Every byte that is answered to each of the requests, but for Date and the id of the request."""
    got = []
    for method, headers, body in REQUESTS:
        with Client(service.port) as client:
            common = {"Content-Length": str(len(body)), "Authorization": url, "Connection": "close"}
            client.head(method, url, {**common, **headers})
            client.send(body)
            with client.socket.makefile("rb") as stream:
                got.append(re.sub(rb"(?m)^(Date|X-Request-Id): .*\r\n", b"", stream.read()))
    return got


def statuses(said: list[bytes]) -> list[int]:
    return [int(answer.split()[1]) for answer in said]


@pytest.mark.soak
@pytest.mark.parametrize("state", ["open", "finished"])
def test_another_owners_upload_is_unknown(service: Service, application: Application, name: str, state: str) -> None:
    """Every method of every URL answers byte for byte as for an upload that never was, and changes nothing."""
    application.grant(owner="alice")
    if state == "open":
        headers = {"Content-Range": "bytes 0-399/1000"}
        assert service.request("PUT", f"/upload/{name}", headers, DATA[:400]).status == 308
    else:
        assert service.request("PUT", f"/upload/{name}", None, DATA[:1000]).status == 200
    before = service.request("GET", f"/upload/{name}").json
    application.grant(owner="mallory")
    unknown = answers(service, f"/uploads/{before['id'][::-1]}")
    assert statuses(unknown) == [*[404] * 7, *[405] * 4]
    assert answers(service, f"/uploads/{before['id']}") == unknown
    unknown = answers(service, f"/upload/{os.urandom(8).hex()}.bin")
    # OPTIONS tells the limits of uploads that are created there (IETF).
    assert statuses(unknown) == [*[404] * 7, 405, 405, 204, 405]
    assert answers(service, f"/upload/{name}") == unknown
    application.grant(owner="alice")
    assert service.request("GET", f"/upload/{name}", {"Authorization": "again"}).json == before
    assert service.request("DELETE", f"/upload/{name}", {"Authorization": "again"}).status == 204


def test_two_owners_each_have_their_own(service: Service, application: Application, s3: MotoServer, name: str) -> None:
    """A body from byte 0 begins an upload of one's own, as it does for an unknown name."""
    application.grant(owner="alice")
    service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes 0-399/1000"}, DATA[:400])
    application.grant(owner="bob")
    mine = service.request("PUT", f"/upload/{name}", {"Authorization": "bob"}, b"bob's")
    assert (mine.status, mine.json["key"]) == (200, f"bob/{name}")
    application.grant(owner="alice")
    answer = service.request("PUT", f"/upload/{name}", {"Content-Range": "bytes 400-999/1000"}, DATA[400:1000])
    assert (answer.status, answer.json["key"]) == (200, f"alice/{name}")
    assert s3.boto3().get_object(Bucket=s3.bucket, Key=f"bob/{name}")["Body"].read() == b"bob's"
