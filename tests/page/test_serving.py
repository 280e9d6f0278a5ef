"""The page's files as they are served: what they may do, that they are kept, and that nothing else can be had by their paths."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pytest_twisted import ensureDeferred

import resumable
from resumable.page.serving import STORED, has_it, make_pages
from resumable.page.stored import StoredPage, is_nearby
from resumable.settings import parse_settings
from resumable.web.cors import Cors
from resumable.web.router import Router, front_page
from tests.protocols.harness import Door, Memory, memory_service, parse_answers, until

PACKAGE = Path(resumable.__file__).parent / "page"


@asynccontextmanager
async def served(*, stored: bool = False, origins: tuple[str, ...] = ()) -> AsyncIterator[Memory]:
    """A service in memory with the page; the application says no to everything."""
    async with memory_service(Door(refused=("create", "append", "status", "cancel"))) as service:
        shown = StoredPage(service.parts.ledger._database, "http://127.0.0.1:9").answer if stored else None
        cors = Cors(origins, credentials=False, protocols=service.protocols) if origins else None
        service.router = Router(service.protocols, {b"/": front_page, **make_pages(shown)}, cors=cors)
        yield service


@ensureDeferred
async def test_the_page_needs_no_authorisation_and_may_do_little() -> None:
    async with served() as service:
        page = await service.ask("GET", "/")
        assert (page.status, page.header("Content-Type")) == (200, "text/html; charset=utf-8")
        assert page.header("Content-Security-Policy") == (
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        assert page.header("X-Content-Type-Options") == "nosniff"
        assert page.header("Cache-Control") == "no-cache"
        # What the policy would stop: scripts and styles in the page, and what comes from elsewhere.
        assert not re.search(rb"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", page.body)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/resumable.js", "text/javascript; charset=utf-8"),
        ("/resumable.d.ts", "text/plain; charset=utf-8"),
        ("/page/page.css", "text/css; charset=utf-8"),
        ("/page/page.js", "text/javascript; charset=utf-8"),
        ("/page/icon.svg", "image/svg+xml"),
    ],
)
@ensureDeferred
async def test_a_file(path: str, kind: str) -> None:
    """From everywhere, with a tag that tells whoever has it that it is the same; HEAD as GET."""
    async with served() as service:
        file = await service.ask("GET", path)
        assert (file.status, file.header("Content-Type"), file.header("Access-Control-Allow-Origin")) == (
            200,
            kind,
            "*",
        )
        head = await service.ask("HEAD", path)
        assert (head.status, head.body, head.header("Content-Length")) == (200, b"", str(len(file.body)))
        etag = file.header("ETag")
        assert etag is not None
        for said in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            same = await service.ask("GET", path, [f"If-None-Match: {said}"])
            assert (same.status, same.body, same.header("ETag")) == (304, b"", etag)
        assert (await service.ask("GET", path, ['If-None-Match: "other"'])).status == 200
        refused = await service.ask("POST", path, body=b"x")
        assert (refused.status, refused.header("Allow")) == (405, "GET, HEAD")


def test_has_it() -> None:
    assert not has_it([], '"a"')
    assert has_it([b'"b"', b'W/"a"'], '"a"')
    assert not has_it([b"a"], '"a"')


@ensureDeferred
async def test_what_the_page_names_is_there() -> None:
    """Every file that HTML and modules refer to."""
    async with served() as service:
        index = (await service.ask("GET", "/")).body.decode()
        named = {"/" + path for path in re.findall(r'(?:href|src)="([^"]+)"', index)}
        for module in PACKAGE.joinpath("files").glob("*.js"):
            for path in re.findall(r'from "([^"]+)"', module.read_text()):
                named.add("/page/" + path[2:] if path.startswith("./") else path[2:])
        assert {"/resumable.js", "/page/page.css", "/page/row.js"} <= named
        for path in named:
            assert (await service.ask("GET", path)).status == 200, path


@pytest.mark.parametrize(
    "path",
    [
        "/page/",
        "/page/index.html",
        "/page/serving.py",
        "/page/../serving.py",
        "/page/%2e%2e/serving.py",
        "/page/..%2f..%2fsettings/schema.py",
        "/page//etc/passwd",
        "/package.json",
        "/page/stored",
    ],
)
@ensureDeferred
async def test_nothing_else_is_served(path: str) -> None:
    async with served() as service:
        assert (await service.ask("GET", path)).status == 404


@ensureDeferred
async def test_with_cors_there_is_one_word_about_who_may_read() -> None:
    async with served(origins=("https://app.example.com",)) as service:
        for origin in ("https://app.example.com", "https://other.example.org"):
            file = await service.ask("GET", "/resumable.js", [f"Origin: {origin}"])
            assert file.headers.getRawHeaders("Access-Control-Allow-Origin") == ["*"]


@ensureDeferred
async def test_what_is_stored_is_listed_for_the_page_alone() -> None:
    async with served(stored=True, origins=("*",)) as service:
        assert b'data-stored="yes"' in (await service.ask("GET", "/")).body
        assert (await service.ask("GET", STORED.decode())).json == {"uploads": []}
        door: Any = service.authorizer
        door.refused = ()
        for name, body in (("a", b"first"), ("b%20%C3%BC", b"second"), ("a", b"again")):
            assert (await service.ask("PUT", f"/upload/{name}", body=body)).status == 200
        await service.ask("POST", "/uploads", body=json.dumps({"name": "unfinished", "length": 9}).encode())
        shown = (await service.ask("GET", STORED.decode())).json["uploads"]
        assert {(one["name"], one["size"]) for one in shown} == {("a", 5), ("b ü", 6)}
        assert {one["url"] for one in shown} == {"http://127.0.0.1:9/bucket/a", "http://127.0.0.1:9/bucket/b%20%C3%BC"}
        other = await service.ask("GET", STORED.decode(), ["Origin: https://evil.example"])
        assert other.status == 403
        # As from a page whose own name was made to mean this machine, which browsers take for the service's.
        wire = service.connect()
        wire.send(b"GET /page/stored HTTP/1.1\r\nHost: evil.example:8080\r\n\r\n")
        await until(lambda: parse_answers(wire.said))
        assert parse_answers(wire.said)[0].status == 403
        assert (await service.ask("DELETE", STORED.decode())).status == 405


@pytest.mark.parametrize(
    ("host", "nearby"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080", "box", "my-box.local")),
        *((host, True) for host in ("192.168.1.7", "a.localhost:80", "nas.home.arpa", "localhost.")),
        *((host, False) for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080")),
        *((host, False) for host in ("local.evil", "", "evil.example.", "x/local", "1.2.3", "a b")),
    ],
)
def test_hosts_nearby(host: str, nearby: bool) -> None:
    assert is_nearby([host.encode()]) is nearby


@pytest.mark.parametrize(
    ("said", "page"), [("", True), ("page: on", True), ("page: off", False), ("page: false", False)]
)
def test_the_setting(said: str, page: bool) -> None:
    settings = parse_settings(f"store: {{bucket: b}}\nauth: open\n{said}\n", "a test", {})
    assert settings.page is page


def test_the_npm_package_has_the_version_of_the_service() -> None:
    described = json.loads(PACKAGE.joinpath("js", "package.json").read_text())
    assert described["version"] == resumable.__version__
    assert all(PACKAGE.joinpath("js", name).is_file() for name in described["files"])
