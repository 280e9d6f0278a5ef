"""The protocol `put` against the real service: every line of its table."""

from __future__ import annotations

import hashlib
import os
import random
import socket
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError

from tests.harness import Application, Client, Service, eventually
from tests.s3servers import MotoServer

CHUNK = 6 << 20
DATA = random.Random(1).randbytes(2 * CHUNK + 1_000_000)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return f"{request.node.name[:60]}-{os.urandom(4).hex()}.bin".replace("[", "-").replace("]", "-").replace("/", "-")


def stored(s3: MotoServer, key: str) -> bytes:
    return bytes(s3.boto3().get_object(Bucket=s3.bucket, Key=key)["Body"].read())


def query(service: Service, name: str, total: str = "*") -> Any:
    return service.request("PUT", f"/upload/{quote(name)}", {"Content-Range": f"bytes */{total}"})


def put(service: Service, name: str, first: int, end: int, total: int | str, data: bytes = DATA) -> Any:
    headers = {"Content-Range": f"bytes {first}-{end - 1}/{total}"}
    return service.request("PUT", f"/upload/{quote(name)}", headers, data[first:end])


@pytest.mark.parametrize("size", [1, 1000, CHUNK - 1, CHUNK, CHUNK + 1, len(DATA)])
def test_whole(service: Service, s3: MotoServer, name: str, size: int) -> None:
    """One PUT with everything: 200, the result, and the object."""
    answer = service.request("PUT", f"/upload/{name}", {"Content-Type": "video/mp4"}, DATA[:size])
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    result = answer.json
    assert (result["state"], result["protocol"], result["name"], result["size"]) == ("finished", "put", name, size)
    assert (result["bucket"], result["key"], result["content_type"]) == (s3.bucket, name, "video/mp4")
    assert stored(s3, name) == DATA[:size]
    head = s3.boto3().head_object(Bucket=s3.bucket, Key=name)
    assert head["ContentType"] == "video/mp4"
    assert head["ETag"].strip('"') == result["etag"]
    assert result["checksum"]["crc32c"]
    assert query(service, name).json == result
    assert service.request("GET", f"/upload/{name}").json == result
    assert service.request("GET", f"/uploads/{result['id']}").json == result


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 5, len(DATA)])
def test_chunked(service: Service, s3: MotoServer, name: str, size: int) -> None:
    """A body whose length nobody has said."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Transfer-Encoding": "chunked"})
        for first in range(0, size, 300_000):
            piece = DATA[first : min(size, first + 300_000)]
            client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        answer = client.answer()
    assert (answer.status, answer.json["size"]) == (200, size)
    assert stored(s3, name) == DATA[:size]


def test_empty(service: Service, s3: MotoServer, name: str) -> None:
    """An empty file is one object of no bytes."""
    answer = service.request("PUT", f"/upload/{name}")
    assert (answer.status, answer.json["size"]) == (200, 0)
    assert stored(s3, name) == b""


def test_breaks_off_and_goes_on(service: Service, s3: MotoServer, name: str) -> None:
    """A client vanishes in the third chunk; it is told what is stored, and goes on there."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(DATA))})
        client.send(DATA[: 2 * CHUNK + 500_000])
        eventually(lambda: query(service, name).headers.get("range") == f"bytes=0-{2 * CHUNK - 1}")
        client.vanish()
    answer = query(service, name, str(len(DATA)))
    assert (answer.status, answer.body) == (308, b"")
    assert "location" not in answer.headers
    offset = int(answer.headers["range"].partition("-")[2]) + 1
    assert offset >= 2 * CHUNK
    state = service.request("GET", f"/upload/{name}").json
    assert (state["state"], state["length"], state["offset"]) == ("open", len(DATA), offset)
    assert state["stored"] == [[0, offset - 1]]
    answer = put(service, name, offset, len(DATA), len(DATA))
    assert (answer.status, answer.json["size"]) == (200, len(DATA))
    assert stored(s3, name) == DATA


def test_in_requests_of_a_chunk(service: Service, s3: MotoServer, name: str) -> None:
    """From byte 0 by Content-Range, each answer saying how far it is; the total known only at the end."""
    assert put(service, name, 0, CHUNK, "*").headers["range"] == f"bytes=0-{CHUNK - 1}"
    answer = put(service, name, CHUNK, 2 * CHUNK, "*")
    assert (answer.status, answer.headers["range"]) == (308, f"bytes=0-{2 * CHUNK - 1}")
    answer = put(service, name, 2 * CHUNK, len(DATA), len(DATA))
    assert answer.status == 200
    assert stored(s3, name) == DATA


def test_the_total_alone_finishes(service: Service, s3: MotoServer, name: str) -> None:
    """Everything is there, and then the client says that this was all."""
    assert put(service, name, 0, CHUNK, "*").status == 308
    assert query(service, name, str(CHUNK + 5)).status == 308
    assert query(service, name, str(CHUNK)).status == 200
    assert stored(s3, name) == DATA[:CHUNK]


def test_stored_bytes_are_skipped(service: Service, s3: MotoServer, name: str) -> None:
    """A client that sends again what is stored already, from the start or from anywhere, is not hindered."""
    assert put(service, name, 0, 2 * CHUNK, len(DATA)).status == 308
    assert put(service, name, 0, CHUNK, len(DATA)).headers["range"] == f"bytes=0-{2 * CHUNK - 1}"
    assert put(service, name, CHUNK + 17, len(DATA), len(DATA)).status == 200
    assert stored(s3, name) == DATA


def test_the_last_byte_as_the_first_clients_said_it(service: Service, s3: MotoServer, name: str) -> None:
    """L == T, where F and the body's length say that T-1 is meant."""
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    headers = {"Content-Range": f"bytes {CHUNK}-{len(DATA)}/{len(DATA)}"}
    assert service.request("PUT", f"/upload/{name}", headers, DATA[CHUNK:]).status == 200
    assert stored(s3, name) == DATA


def test_a_gap(service: Service, name: str) -> None:
    """Going on past what is stored takes nothing, and says where to go on."""
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    answer = put(service, name, CHUNK + 1, len(DATA), len(DATA))
    assert (answer.status, answer.headers["range"]) == (416, f"bytes=0-{CHUNK - 1}")
    assert answer.json["status"] == 416
    assert service.request("DELETE", f"/upload/{name}").status == 204


def test_another_total(service: Service, name: str) -> None:
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    assert put(service, name, CHUNK, len(DATA) - 1, len(DATA) - 1).status == 400
    assert query(service, name, str(len(DATA) - 1)).status == 400
    assert query(service, name, str(len(DATA))).status == 308
    assert service.request("DELETE", f"/upload/{name}").status == 204


def test_cancelled(service: Service, s3: MotoServer, name: str) -> None:
    """DELETE frees everything, by name and by id; afterwards the upload is unknown."""
    for path in ("upload", "uploads"):
        assert put(service, name, 0, CHUNK, len(DATA)).status == 308
        known = service.request("GET", f"/upload/{name}").json
        target = name if path == "upload" else known["id"]
        assert service.request("DELETE", f"/{path}/{target}").status == 204
        assert query(service, name).status == 404
        assert put(service, name, CHUNK, len(DATA), len(DATA)).status == 404
        assert s3.boto3().list_multipart_uploads(Bucket=s3.bucket).get("Uploads", []) == []
    with pytest.raises(ClientError):
        stored(s3, name)


def test_a_whole_put_begins_anew(service: Service, s3: MotoServer, name: str) -> None:
    """An upload of the same name that was not finished is cancelled; a finished one is replaced."""
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    assert service.request("PUT", f"/upload/{name}", None, DATA[5:]).status == 200
    assert stored(s3, name) == DATA[5:]
    assert service.request("PUT", f"/upload/{name}", None, b"short").status == 200
    assert stored(s3, name) == b"short"


def test_the_answer_was_lost(service: Service, s3: MotoServer, name: str) -> None:
    """A client that did not hear of the end sends its last request again, and gets the same result."""
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    first = put(service, name, CHUNK, len(DATA), len(DATA))
    assert first.status == 200
    last = put(service, name, CHUNK, len(DATA), len(DATA))
    assert (last.status, last.json) == (200, first.json)
    middle = put(service, name, CHUNK - 7, CHUNK + 7, len(DATA))
    assert (middle.status, middle.json) == (200, first.json)


def test_a_finished_name_from_byte_0(service: Service, s3: MotoServer, name: str) -> None:
    """It is another upload of the name, whatever it has in common with the finished one."""
    first = put(service, name, 0, len(DATA), len(DATA)).json
    for data in (DATA, bytes(reversed(DATA)), DATA[:CHUNK]):
        other = put(service, name, 0, len(data), len(data), data)
        assert (other.status, other.json["size"]) == (200, len(data))
        assert other.json["id"] != first["id"]
        assert stored(s3, name) == data


def test_the_file_has_changed(service: Service, s3: MotoServer, name: str) -> None:
    """Other bytes than the stored ones: from byte 0 they are taken anew, from elsewhere refused, and nothing is altered."""
    other = bytearray(DATA)
    other[CHUNK + 20] ^= 1
    assert put(service, name, 0, CHUNK + 1000, len(DATA)).status == 308
    refused = put(service, name, CHUNK, len(DATA), len(DATA), bytes(other))
    assert refused.status == 409
    assert "changed" in refused.json["detail"]
    assert query(service, name).headers["range"] == f"bytes=0-{CHUNK + 999}"
    assert put(service, name, 0, CHUNK + 500, len(DATA), bytes(other)).headers["range"] == f"bytes=0-{CHUNK + 499}"
    assert put(service, name, CHUNK + 500, len(DATA), len(DATA), bytes(other)).status == 200
    assert stored(s3, name) == bytes(other)
    assert put(service, name, CHUNK, len(DATA), len(DATA)).status == 409
    assert stored(s3, name) == bytes(other)


def test_a_changed_file_of_another_length(service: Service, s3: MotoServer, name: str) -> None:
    """From byte 0 a client is free to bring another file altogether."""
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    assert put(service, name, 0, CHUNK, CHUNK + 9, bytes(reversed(DATA))).status == 308
    assert put(service, name, CHUNK, CHUNK + 9, CHUNK + 9, bytes(reversed(DATA))).status == 200
    assert stored(s3, name) == bytes(reversed(DATA))[: CHUNK + 9]


def test_deleting_a_finished_upload(service: Service, s3: MotoServer, name: str) -> None:
    """The name is free again, and what was there before it does not come back; the object stays, and the answer says so."""
    for size in (10, 20):
        assert service.request("PUT", f"/upload/{name}", None, DATA[:size]).status == 200
    answer = service.request("DELETE", f"/upload/{name}")
    assert (answer.status, answer.headers["upload-object"]) == (204, "kept")
    assert service.request("GET", f"/upload/{name}").status == 404
    assert query(service, name).status == 404
    assert service.request("DELETE", f"/upload/{name}").status == 404
    assert stored(s3, name) == DATA[:20]
    assert put(service, name, 10, 20, 20).status == 404


def test_expect_is_answered_when_the_body_is_wanted(service: Service, s3: MotoServer, name: str) -> None:
    """100 Continue comes after the word of the application; a refusal comes without it, and no byte is taken."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": "5", "Expect": "100-continue"})
        assert client.socket.recv(100).startswith(b"HTTP/1.1 100 ")
        client.send(b"hello")
        assert client.answer().status == 200
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(2 << 30), "Expect": "100-continue"})
        assert client.socket.recv(100).startswith(b"HTTP/1.1 413 ")


def test_keep_alive(service: Service, name: str) -> None:
    """Many requests on one connection, with and without bodies."""
    with Client(service.port) as client:
        for _ in range(3):
            client.head("PUT", f"/upload/{name}", {"Content-Range": "bytes */*", "Content-Length": "0"})
            assert client.answer().status == 404
        for first in (0, CHUNK):
            client.head(
                "PUT",
                f"/upload/{name}",
                {"Content-Range": f"bytes {first}-{first + CHUNK - 1}/*", "Content-Length": str(CHUNK)},
            )
            client.send(DATA[first : first + CHUNK])
            assert client.answer().status == 308
        client.head("DELETE", f"/upload/{name}", {})
        assert client.answer().status == 204


@pytest.mark.soak
def test_silence(service: Service, name: str) -> None:
    """A client that stops sending is told 408 after the idle time-out; what was confirmed stays."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(DATA))})
        client.send(DATA[: CHUNK + 100])
        answer = client.answer()
        assert (answer.status, answer.json["status"]) == (408, 408)
        assert client.socket.recv(1) == b""
    assert query(service, name).headers["range"].startswith(f"bytes=0-{CHUNK - 1}"[:9])
    assert service.request("DELETE", f"/upload/{name}").status == 204


def test_names(service: Service, s3: MotoServer) -> None:
    """Names are UTF-8 and may have slashes; they come back as they went in."""
    for path, key in [("a/b%20c/%C3%A9.txt", "a/b c/\u00e9.txt"), ("plus+%26%3F%23%25.txt", "plus+&?#%.txt")]:
        answer = service.request("PUT", f"/upload/{path}", None, b"hello")
        assert (answer.status, answer.json["name"], answer.json["key"]) == (200, key, key)
        assert stored(s3, key) == b"hello"


def test_a_query_disturbs_nobody(service: Service, s3: MotoServer, name: str) -> None:
    """Asking how far an upload is, again and again, leaves whoever is writing it alone."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(DATA))})
        eventually(lambda: query(service, name).status == 308)
        for first in range(0, len(DATA), 1 << 20):
            client.send(DATA[first : first + (1 << 20)])
            assert query(service, name).status in (308, 200)
        assert client.answer().status == 200
    assert hashlib.sha256(stored(s3, name)).digest() == hashlib.sha256(DATA).digest()


def test_the_application_decides(service: Service, s3: MotoServer, application: Application, name: str) -> None:
    """What the application says becomes of the upload, before what the client says; and it is asked every time."""
    application.grant(
        owner="alice",
        key=f"videos/{name}",
        content_type="video/webm",
        metadata={"title": "T\u00e9st"},
        object={"content_disposition": "attachment", "tags": {"a": "b c"}},
    )
    answer = service.request(
        "PUT", f"/upload/{name}", {"Authorization": "Bearer x", "Content-Type": "text/html"}, b"hello"
    )
    assert answer.status == 200
    assert (answer.json["owner"], answer.json["key"]) == ("alice", f"videos/{name}")
    assert (answer.json["content_type"], answer.json["metadata"]) == ("video/webm", {"title": "T\u00e9st"})
    head = s3.boto3().head_object(Bucket=s3.bucket, Key=f"videos/{name}")
    assert (head["ContentType"], head["ContentDisposition"]) == ("video/webm", "attachment")
    tags = s3.boto3().get_object_tagging(Bucket=s3.bucket, Key=f"videos/{name}")["TagSet"]
    assert tags == [{"Key": "a", "Value": "b c"}]
    asked = application.asked[0]
    assert asked["authorization"] == "Bearer x"
    assert (asked["x-upload-action"], asked["x-upload-length"], asked["x-original-method"]) == ("create", "5", "PUT")
    for method, headers in [("PUT", {"Content-Range": "bytes */*"}), ("GET", {}), ("DELETE", {})]:
        application.asked.clear()
        service.request(method, f"/upload/{name}", headers)
        assert [a["x-upload-action"] for a in application.asked] == ["cancel" if method == "DELETE" else "status"]


def test_owners_are_apart(service: Service, application: Application, name: str) -> None:
    """To another owner an upload does not exist, by name or by id."""
    application.grant(owner="alice")
    assert put(service, name, 0, CHUNK, len(DATA)).status == 308
    known = service.request("GET", f"/upload/{name}").json["id"]
    application.grant(owner="mallory")
    assert query(service, name).status == 404
    assert put(service, name, CHUNK, len(DATA), len(DATA)).status == 404
    for method in ("GET", "DELETE"):
        unknown = service.request(method, "/uploads/no-such-id")
        theirs = service.request(method, f"/uploads/{known}")
        assert (theirs.status, theirs.body) == (unknown.status, unknown.body) == (404, unknown.body)
    application.grant(owner="alice")
    assert service.request("DELETE", f"/uploads/{known}").status == 204


@pytest.mark.parametrize("status", [401, 403, 402, 429])
def test_refused(service: Service, application: Application, name: str, status: int) -> None:
    """A no is passed on as it is; not a byte is taken."""
    application.refuse(status, b"not you", **{"WWW-Authenticate": "Bearer", "Content-Type": "text/plain"})
    answer = service.request("PUT", f"/upload/{name}", None, DATA[:1000])
    assert (answer.status, answer.body, answer.headers["www-authenticate"]) == (status, b"not you", "Bearer")
    application.grant()
    assert query(service, name).status == 404


@pytest.mark.parametrize("status", [500, 302, 0])
def test_no_word_lets_nobody_in(service: Service, application: Application, name: str, status: int) -> None:
    """An application that is broken, or breaks the connection: 503, come again; nothing is stored."""
    application.refuse(status, b"secret detail")
    answer = service.request("PUT", f"/upload/{name}", None, DATA[:1000])
    assert (answer.status, answer.json["status"]) == (503, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert b"secret detail" not in answer.body
    application.grant()
    assert query(service, name).status == 404


def test_the_application_sets_limits(service: Service, application: Application, name: str) -> None:
    """A length over the application's limit is refused at once; one that nobody has said, when it is passed."""
    application.grant(max_size=CHUNK + 10)
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(CHUNK + 11)})
        assert client.answer().status == 413
    assert query(service, name).status == 404
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Transfer-Encoding": "chunked"})
        client.send(b"%x\r\n%s\r\n" % (CHUNK + 11, DATA[: CHUNK + 11]))
        assert client.answer().status == 413
    assert service.request("DELETE", f"/upload/{name}").status == 204


BAD = [
    ("PUT", "/upload/x", {"Content-Range": "bytes 5-4/10"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "bytes 0-9/5"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "bytes 0-4/5", "Content-Length": "4"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "bytes 0-4/5", "Content-Length": "6"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "bytes 0-4/5", "Content-Length": "0"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "gibberish"}, 400),
    ("PUT", "/upload/x", {"Content-Range": "bytes 6000000-3437183/9437184", "Content-Length": "-2562816"}, 400),
    ("PUT", "/upload/x", {"Content-Length": "-1"}, 400),
    ("PUT", "/upload/x", {"Content-Length": "five"}, 400),
    ("PUT", "/upload/x", {"Content-Length": "5", "Transfer-Encoding": "chunked"}, 400),
    ("PUT", "/upload/x", {"Content-Length": "5\r\nContent-Length: 6"}, 400),
    ("PUT", "/upload/x", {}, 411),
    ("PUT", "/upload/x", {"Content-Length": str(6 << 40)}, 413),
    ("PUT", "/upload/x", {"Content-Range": f"bytes 0-4/{6 << 40}", "Content-Length": "5"}, 413),
    ("PUT", "/upload/x", {"Content-Range": "bytes 7-11/12", "Content-Length": "5"}, 404),
    ("PUT", "/upload/x", {"Content-Range": "bytes */*"}, 404),
    ("PUT", "/upload/a%00b", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/a%0Ab", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/a/../b", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/%2E%2E/b", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/%FF", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/", {"Content-Length": "5"}, 400),
    ("PUT", "/upload/" + "x" * 1025, {"Content-Length": "5"}, 400),
    ("PUT", "/upload/.resumable/x", {"Content-Length": "5"}, 400),
    ("PUT", "/nowhere", {"Content-Length": "5"}, 404),
    ("POST", "/upload/x", {"Content-Length": "5"}, 405),
    ("PATCH", "/uploads/x", {"Content-Length": "5"}, 405),
    ("GET", "/upload/x", {}, 404),
    ("DELETE", "/upload/x", {}, 404),
    ("GET", "/uploads/x", {}, 404),
    ("DELETE", "/uploads/%00", {}, 404),
    ("PUT", "/", {"Content-Length": "5"}, 405),
]


@pytest.mark.parametrize(("method", "path", "headers", "status"), BAD)
def test_bad_input(
    service: Service, s3: MotoServer, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """Nonsense gets the status it deserves and a word to people, leaves nothing behind, and is no error of ours."""
    before = len(service.log)
    with Client(service.port) as client:
        client.head(method, path, headers)
        answer = client.answer()
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["detail"]
    assert "Traceback" not in service.log[before:]
    assert "error" not in service.log[before:].lower()
    assert query(service, "x").status == 404
    listed = s3.boto3().list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    assert [o["Key"] for o in listed if o["Key"] == "x" or o["Key"].startswith(".resumable")] == []


def test_half_a_request_line(service: Service) -> None:
    """Bytes that are no HTTP at all."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as raw:
        raw.sendall(b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert raw.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_too_long_on_the_way(service: Service, name: str) -> None:
    """A chunked body that is longer than its range: 400, and what is stored is right."""
    with Client(service.port) as client:
        headers = {"Content-Range": f"bytes 0-{CHUNK - 1}/*", "Transfer-Encoding": "chunked"}
        client.head("PUT", f"/upload/{name}", headers)
        client.send(b"%x\r\n%s\r\n0\r\n\r\n" % (CHUNK + 1, DATA[: CHUNK + 1]))
        answer = client.answer()
    assert answer.status == 400
    assert service.request("DELETE", f"/upload/{name}").status == 204


def test_the_log_tells_each_upload(service: Service, s3: MotoServer, application: Application, name: str) -> None:
    """One line for start, interruption, resume and end, with id, owner, name, bytes and seconds."""
    application.grant(owner="al 'ice")
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(DATA))})
        client.send(DATA[: CHUNK + 5])
        eventually(lambda: "range" in query(service, name).headers)
        client.vanish()
    eventually(lambda: f"name={name!r}" in service.log and "upload interrupted" in service.log)
    upload = service.request("GET", f"/upload/{name}").json
    put(service, name, upload["offset"], len(DATA), len(DATA))
    lines = [line for line in service.log.splitlines() if f"id={upload['id']}" in line]
    words = [line.split("upload ", 1)[1].split()[0] for line in lines]
    assert words == ["started", "interrupted", "resumed", "finished"]
    assert all(f'owner="al \'ice" name={name!r} bytes=' in line and " seconds=" in line for line in lines)
    assert f"bytes={len(DATA)}" in lines[-1]
