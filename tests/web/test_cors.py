"""Browsers from other origins: who is let in, what they may send and read, and that nobody is asked for a preflight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

from resumable.settings import SettingsError, parse_settings
from resumable.web.cors import Cors, Origins
from resumable.web.router import Router
from tests.protocols.harness import Answer, Door, Memory, memory_service

APP = "https://app.example.com"


def allow(service: Memory, origins: Sequence[str], *, credentials: bool = False, sent: Sequence[str] = ()) -> None:
    cors = Cors(origins, credentials=credentials, protocols=service.protocols, sent=sent)
    service.router = Router(service.protocols, {}, cors=cors)


def named(answer: Answer, name: str) -> set[str]:
    return {one.strip() for one in (answer.header(name) or "").split(",")} - {""}


async def preflight(service: Memory, target: str, method: str, *headers: str, origin: str = APP) -> Answer:
    asked = [f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *headers]
    return await service.ask("OPTIONS", target, asked)


@pytest.mark.parametrize(
    ("allowed", "origin", "let_in"),
    [
        ([APP], APP, True),
        ([APP], "https://APP.example.com", True),
        ([APP], "http://app.example.com", False),
        ([APP], "https://app.example.com:8443", False),
        ([APP], "https://app.example.com.evil.com", False),
        (["https://*.example.com"], "https://a.example.com", True),
        (["https://*.example.com"], "https://a.b.example.com", True),
        (["https://*.example.com"], "https://example.com", False),
        (["https://*.example.com"], "https://.example.com", False),
        (["https://*.example.com"], "https://evilexample.com", False),
        (["https://*.example.com"], "https://a.example.com:8443", False),
        (["https://*.example.com:8443"], "https://a.example.com:8443", True),
        (["https://*.example.com"], "https://evil.com/.example.com", False),
        (["https://*.example.com"], "https://u@a.example.com", False),
        (["*"], "null", True),
        ([APP], "null", False),
        ([], APP, False),
    ],
)
def test_origins(allowed: list[str], origin: str, let_in: bool) -> None:
    assert (origin in Origins(allowed)) is let_in


@ensureDeferred
async def test_a_preflight_asks_nobody() -> None:
    """What the protocols read and answer, in one answer; the application, the ledger and the store are left alone."""
    door = Door(refused=("create", "append", "status", "cancel"))
    async with memory_service(door) as service:
        allow(service, [APP], sent=["X-Api-Key", "Cookie"])
        answer = await preflight(service, "/upload/a", "PUT", "Access-Control-Request-Headers: content-range,x-api-key")
        assert (answer.status, answer.body, door.asked) == (204, b"", [])
        assert answer.header("Access-Control-Allow-Origin") == APP
        assert answer.header("Access-Control-Max-Age") == "86400"
        assert answer.header("Vary") == "Origin"
        assert named(answer, "Access-Control-Allow-Methods") >= {"PUT", "GET", "HEAD", "DELETE", "POST"}
        allowed = named(answer, "Access-Control-Allow-Headers")
        assert allowed >= {"Authorization", "Content-Type", "Content-Range", "Upload-Swarm", "X-Api-Key"}
        assert "Cookie" not in allowed
        assert answer.header("Access-Control-Allow-Credentials") is None
        assert answer.header("Access-Control-Allow-Private-Network") is None


@ensureDeferred
async def test_a_page_that_reaches_into_a_private_network() -> None:
    async with memory_service() as service:
        allow(service, [APP])
        answer = await preflight(service, "/upload/a", "PUT", "Access-Control-Request-Private-Network: true")
        assert answer.header("Access-Control-Allow-Private-Network") == "true"


@ensureDeferred
async def test_another_origin_is_told_why() -> None:
    async with memory_service() as service:
        allow(service, [APP])
        answer = await preflight(service, "/upload/a", "PUT", origin="https://evil.example")
        assert answer.status == 403
        assert "cors.origins" in answer.json["detail"]
        assert answer.header("Access-Control-Allow-Origin") is None
        assert answer.header("Vary") == "Origin"


@ensureDeferred
async def test_answers_and_refusals_can_be_read() -> None:
    """A refusal that a page cannot read is a riddle to who writes it."""
    door = Door()
    async with memory_service(door) as service:
        allow(service, [APP])
        made = await service.ask("PUT", "/upload/a", [f"Origin: {APP}"], b"hello")
        assert (made.status, made.header("Access-Control-Allow-Origin")) == (200, APP)
        exposed = named(made, "Access-Control-Expose-Headers")
        assert exposed >= {
            "Location",
            "Range",
            "Retry-After",
            "WWW-Authenticate",
            "Upload-Chunk-Size",
            "Upload-Expires",
        }
        door.refused = ("create", "status")
        refused = await service.ask("PUT", "/upload/b", [f"Origin: {APP}"], b"hello")
        assert (refused.status, refused.header("Access-Control-Allow-Origin")) == (403, APP)
        nowhere = await service.ask("GET", "/nowhere", [f"Origin: {APP}"])
        assert (nowhere.status, nowhere.header("Access-Control-Allow-Origin")) == (404, APP)
        # What depends on the origin says so, to whomever.
        for headers in ([], ["Origin: https://evil.example"]):
            other = await service.ask("GET", "/upload/a", headers)
            assert (other.header("Access-Control-Allow-Origin"), other.header("Vary")) == (None, "Origin")


@ensureDeferred
async def test_all_origins() -> None:
    """The answer is the same for all, so caches may share it."""
    async with memory_service() as service:
        allow(service, ["*"])
        answer = await service.ask("PUT", "/upload/a", [f"Origin: {APP}"], b"hello")
        assert (answer.header("Access-Control-Allow-Origin"), answer.header("Vary")) == ("*", None)
        assert (await preflight(service, "/uploads", "POST")).header("Access-Control-Allow-Origin") == "*"


@ensureDeferred
async def test_credentials() -> None:
    """Never with a star."""
    async with memory_service() as service:
        allow(service, ["https://*.example.com"], credentials=True)
        for answer in (
            await preflight(service, "/upload/a", "PUT"),
            await service.ask("PUT", "/upload/a", [f"Origin: {APP}"], b"hello"),
        ):
            assert answer.header("Access-Control-Allow-Origin") == APP
            assert answer.header("Access-Control-Allow-Credentials") == "true"
            assert answer.header("Vary") == "Origin"


@ensureDeferred
async def test_off_unless_configured() -> None:
    async with memory_service() as service:
        answer = await service.ask("PUT", "/upload/a", [f"Origin: {APP}"], b"hello")
        assert answer.header("Access-Control-Allow-Origin") is None
        assert (await preflight(service, "/upload/a", "PUT")).status == 405


@ensureDeferred
async def test_odd_origins() -> None:
    """Two of them, an empty one, bytes: no traceback, and nobody is let in."""
    async with memory_service() as service:
        allow(service, [APP])
        for lines in ([f"Origin: {APP}", f"Origin: {APP}"], ["Origin: "], ["Origin: \xff\xfe"]):
            answer = await service.ask("GET", "/upload/none", lines)
            assert (answer.status, answer.header("Access-Control-Allow-Origin")) == (404, None)
            asked = await service.ask("OPTIONS", "/upload/a", [*lines, "Access-Control-Request-Method: PUT"])
            assert asked.status in (403, 405)


@pytest.mark.parametrize(
    ("cors", "problem"),
    [
        ("{origins: ['*'], credentials: true}", "cors.credentials: must be false"),
        ("{origins: [app.example.com]}", "must be an origin"),
        ("{origins: ['https://app.example.com/path']}", "must be an origin"),
        ("{origins: ['https://a.*.com']}", "first label"),
        ("{origins: ['ftp://a.example']}", "must be an origin"),
    ],
)
def test_faulty_settings(cors: str, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        parse_settings(f"store: {{bucket: b}}\nauth: open\ncors: {cors}", "app.yaml", {})


def test_origins_as_browsers_send_them() -> None:
    settings: Any = parse_settings(
        "store: {bucket: b}\nauth: open\ncors: {origins: ['HTTPS://App.Example.com:443/', 'http://h:80', '*']}", "a", {}
    )
    assert settings.cors.origins == ("https://app.example.com", "http://h", "*")
