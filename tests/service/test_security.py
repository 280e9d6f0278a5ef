"""What a running service lets others do: nothing to its log, nothing with its secrets, little with its connections."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.harness import ROOT, TWISTD, Application, Client, Service, eventually
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

FORMATS = pytest.mark.parametrize("form", ["text", "json"])
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[[^\]]*\] ")
#: Line breaks and terminal commands that a name or an owner may have in it.
NASTY = "a\u2028forged\u2029x\u202ey\u200bz"
FORGED = "2026-01-01T00:00:00+0000 [resumable#info] upload finished"


def raw(service: Service, request: bytes) -> bytes:
    """Everything that is answered to these bytes."""
    with Client(service.port) as client:
        client.send(request)
        with client.socket.makefile("rb") as stream:
            return stream.read()


@FORMATS
def test_log_lines_are_not_forged(tmp_path: Path, s3: MotoServer, application: Application, form: str) -> None:
    """By names, owners, keys, URLs, headers, and what a store answers: a line is an event."""
    config = configuration(
        s3,
        store={"patience": "1s"},
        auth={"url": application.url, "cache": 0},
        log={"format": form, "level": "debug"},
    )
    forged = f"{NASTY}\r\n{FORGED}"
    with Service(tmp_path, config) as service:
        application.grant(owner=f"{NASTY} {FORGED}")
        name = quote(NASTY)
        assert service.request("PUT", f"/upload/{name}", None, b"hello").status == 200
        assert service.request("PUT", f"/upload/{quote(forged)}", None, b"hello").status == 400
        with Client(service.port) as client:
            client.head("PUT", f"/upload/{name}", {"Content-Length": "100"})
            client.send(b"hello")
            eventually(lambda: service.request("GET", f"/upload/{name}").json["state"] == "open")
            client.vanish()
        eventually(lambda: "upload interrupted" in service.log)
        assert service.request("DELETE", f"/upload/{name}").status == 204
        application.grant(bucket="no-such-bucket", key=f"{NASTY} {FORGED}")
        assert service.request("PUT", f"/upload/{name}", None, b"hello").status == 503
        application.answer = lambda _: (200, {"Content-Type": "application/json"}, json.dumps({NASTY: 1}).encode()[:-1])
        assert service.request("PUT", f"/upload/x{name}", None, b"hello").status == 503
        application.grant()
        for head in (
            b"GET /\x1b[31m\xe2\x80\xa8\x85 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            b"GET /upload/a%0A" + quote(FORGED).encode() + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            b"GET\x0b / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nX: \x1b[2J\xe2\x80\xa8\rHost: x\r\n\r\n",
            b"PUT /upload/x HTTP/1.1\r\nHost: h\r\nContent-Range: \xe2\x80\xa8\x1b[31m\r\nConnection: close\r\n\r\n",
            b"PUT /upload/x HTTP/1.1\r\nHost: h\r\nContent-Length: \xe2\x80\xa8\r\n\r\n",
        ):
            # Whoever waits for the end of the connection waits for seconds, in which the service lets a client read.
            with Client(service.port) as client:
                client.send(head)
                assert client.answer().status == 400
        service.terminate()
        log = service.log
    assert log.count("upload finished") >= 2, "one that happened, one in the name of another"
    lines = log.removesuffix("\n").split("\n")
    for line in lines:
        assert line.isprintable()
        if form == "text":
            assert LINE.match(line), line
            assert not line.startswith(FORGED)
        else:
            assert json.loads(line)["message"], line
    assert lines == log.splitlines()


SECRETS = {
    "access_key": "CANARYACCESSKEY",
    "secret_key": "canary-secret-key",
    "session_token": "canary-session-token",
    "auth": "canary-auth-token",
    "events": "canary-events-token",
    "webhook": "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5",
    "authorization": "canary-authorization",
    "cookie": "canary-cookie",
    "query": "canary-query",
}


@pytest.mark.soak
@FORMATS
def test_secrets_are_nowhere(tmp_path: Path, s3: MotoServer, application: Application, form: str) -> None:
    """Not in the log at its most talkative, not in any answer, however uploads go."""
    keys = {name: SECRETS[name] for name in ("access_key", "secret_key", "session_token")}
    config = configuration(
        s3,
        store={**keys, "patience": "1s"},
        auth={"url": f"{application.url}?token={SECRETS['auth']}", "cache": "0s", "timeout": "500ms"},
        events={"url": f"{application.url}?token={SECRETS['events']}", "secret": f"whsec_{SECRETS['webhook']}"},
        limits={"idle_timeout": "1s"},
        log={"format": form, "level": "debug"},
    )
    client_headers = {"Authorization": f"Bearer {SECRETS['authorization']}", "Cookie": f"s={SECRETS['cookie']}"}
    query = f"?token={SECRETS['query']}"
    said: list[bytes] = []

    def ask(method: str, headers: dict[str, str] | None = None, body: bytes = b"", name: str = f"{form}.bin") -> int:
        answer = service.request(method, f"/upload/{name}{query}", {**client_headers, **(headers or {})}, body)
        said.append(answer.body + repr(answer.headers).encode())
        return answer.status

    with Service(tmp_path, config) as service:
        assert ask("PUT", None, b"hello") == 200
        assert [ask("GET"), ask("DELETE"), ask("POST")] == [200, 204, 405]
        assert ask("PUT", {"Content-Range": "bytes 0-9/20"}, b"0123456789") == 308
        assert ask("PUT", {"Content-Range": "nonsense"}) == 400
        with Client(service.port) as client:
            client.head("PUT", f"/upload/{form}.bin{query}", {**client_headers, "Content-Length": "100"})
            client.send(b"hello")
            client.vanish()
        with Client(service.port) as client:
            client.head("PUT", f"/upload/{form}2.bin{query}", {**client_headers, "Content-Length": "100"})
            client.send(b"hello")
            said.append(client.answer().body)
        application.refuse(403, b"no", **{"WWW-Authenticate": "Bearer"})
        assert ask("PUT", None, b"hello") == 403
        for status in (302, 500):
            application.refuse(status, b"?", Location=f"/?token={SECRETS['auth']}")
            assert ask("PUT", None, b"hello") == 503
        application.answer = lambda _: (200, {"Content-Type": "application/json"}, b'{"owner": 5}')
        assert ask("PUT", None, b"hello") == 503
        application.answer = lambda _: (0, {}, b"")
        assert ask("PUT", None, b"hello") == 503
        application.answer = lambda _: (time.sleep(0.7), (200, {}, b""))[1]
        assert ask("PUT", None, b"hello") == 503
        application.grant(bucket="no-such-bucket")
        assert ask("PUT", None, b"hello") == 503
        application.grant()
        bad = f"GET / HTTP/1.1\r\nHost: h\r\nAuthorization {SECRETS['authorization']}\r\n\r\n"
        said.append(raw(service, bad.encode()))
        said.append(raw(service, f"GET {SECRETS['query']}\r\n\r\n".encode()))
        eventually(lambda: "upload interrupted" in service.log)
        eventually(lambda: re.search("event.* 501", service.log))
        assert [ask("DELETE"), ask("DELETE", name=f"{form}2.bin")] == [204, 204]
        service.terminate()
        log = service.log
    assert any("canary" in value for value in application.asked[0].values()), "the application is shown what it needs"
    assert "auth application" in log
    assert "store refused" in log
    for name, secret in SECRETS.items():
        assert secret not in log, name
        assert secret.encode() not in b"".join(said), name


@pytest.mark.soak
@pytest.mark.parametrize("ledger", ["postgresql://u:canary@127.0.0.1:1/db", "postgresql://u:canary@127.0.0.1:1/db?x=y"])
def test_a_ledger_that_cannot_be_reached_keeps_its_password(tmp_path: Path, s3: MotoServer, ledger: str) -> None:
    """The service that does not start says why, and not with what."""
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(configuration(s3, ledger=ledger, log={"level": "debug"})))
    ended = subprocess.run(
        [sys.executable, "-c", TWISTD, "-n", "resumable", "--config", "app.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert "ledger: cannot be opened" in ended.stderr
    assert "canary" not in ended.stderr + ended.stdout


@pytest.fixture(scope="module")
def small(s3: MotoServer, application: Application, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for three at a time, who have three seconds to speak, behind a proxy on this machine."""
    config = configuration(
        s3,
        auth={"url": application.url},
        limits={"connections": 3, "idle_timeout": "3s"},
        trusted_proxies=["127.0.0.0/8"],
    )
    with Service(tmp_path_factory.mktemp("small"), config) as started:
        yield started
        assert "Traceback" not in started.log


def test_there_is_room_for_so_many(small: Service) -> None:
    """One more is told so and closed; those who are there go on; when they have gone there is room again."""
    with Client(small.port) as first, Client(small.port) as second, Client(small.port) as third:
        crowd = (first, second, third)
        for number, client in enumerate(crowd):
            client.head("PUT", f"/upload/crowd{number}", {"Content-Length": "5"})
        eventually(
            lambda: raw(small, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 503 ")
        )
        refused = raw(small, b"PUT /upload/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
        assert b"\r\nRetry-After: 5\r\n" in refused
        for client in crowd:
            client.send(b"hello")
        assert [client.answer().status for client in crowd] == [200, 200, 200]
    assert small.log.count("limits.connections (3) is reached") == 1
    eventually(lambda: small.request("GET", "/").status == 200)


@pytest.mark.soak
def test_a_head_that_drips_is_cut(small: Service) -> None:
    """A byte now and then keeps no connection."""
    begun = time.monotonic()
    with Client(small.port) as client:
        for byte in b"PUT /upload/slow HTTP/1.1\r\nHost: h\r\nX: yyyyyyyyyyy":
            client.send(bytes([byte]))
            time.sleep(0.1)
            if time.monotonic() - begun > 3.5:
                break
        answer = client.answer()
        assert (answer.status, answer.headers["connection"]) == (408, "close")
        assert client.socket.recv(1) == b""
    assert time.monotonic() - begun < 12


def test_a_trusted_proxy_names_the_client(small: Service, application: Application) -> None:
    """To the application, and in URLs that are handed out; a forged entry to its left is not believed."""
    headers = {
        "X-Forwarded-For": "192.0.2.66, 203.0.113.9, 127.0.0.5",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "up.example.com",
    }
    small.request("GET", "/upload/x", headers)
    assert application.asked[-1]["x-forwarded-for"] == "203.0.113.9"
    assert handed_out(small, headers).startswith("https://up.example.com/uploads/")


def test_nobody_else_does(service: Service, application: Application) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Forwarded-Host": "evil.example"}
    service.request("GET", "/upload/x", headers)
    assert application.asked[-1]["x-forwarded-for"] == "127.0.0.1"
    assert handed_out(service, headers).startswith("http://test/uploads/")


def handed_out(service: Service, headers: Mapping[str, str]) -> str:
    """The URL of a new upload."""
    body = b'{"name": "n", "length": 5}'
    answer = service.request("POST", "/uploads", {**headers, "Content-Type": "application/json"}, body)
    assert answer.status == 201, answer
    return answer.headers["location"]
