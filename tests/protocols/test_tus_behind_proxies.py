"""The Location of a new upload leads back to where its client came from: through proxies, if they are trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from pytest_twisted import ensureDeferred

from resumable.protocols.origin import Proxies
from tests.protocols.harness import Memory, memory_service
from tests.protocols.test_tus import DATA, V, patch
from tests.web.wire import Wire

#: The other end of a connection in memory is 192.168.1.1.
TRUSTED = Proxies(["192.168.0.0/16"])
UNTRUSTED = Proxies(["10.0.0.0/8"])
CLAIMS = [
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: up.example.com:8443",
    "X-Forwarded-Prefix: /films/in",
]


def behind(service: Memory, proxies: Proxies) -> Memory:
    """Serve connections from behind these proxies."""
    service.connect = lambda: Wire(root=service.router, proxies=proxies)  # type: ignore[method-assign]
    return service


async def locations(service: Memory, headers: Sequence[str]) -> set[str]:
    """Where a new upload is said to be, by both ways of making one, without its id."""
    made = await service.ask("POST", "/files/", [V, f"Upload-Length: {len(DATA)}", *headers])
    body = json.dumps({"name": "n", "length": len(DATA), "protocol": "tus"}).encode()
    handed_out = await service.ask("POST", "/uploads", headers, body)
    assert (made.status, handed_out.status) == (201, 201)
    assert handed_out.json["url"] == handed_out.header("Location")
    return {(answer.header("Location") or "").rpartition("/")[0] for answer in (made, handed_out)}


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([], "http://test/files"),
        (CLAIMS, "https://up.example.com:8443/films/in/files"),
        (CLAIMS[:3], "https://up.example.com:8443/files"),
        (CLAIMS[1:2], "https://test/files"),
        (CLAIMS[3:], "http://test/films/in/files"),
        (["Forwarded: for=203.0.113.9;proto=https;host=up.example.com"], "https://up.example.com/files"),
        (['Forwarded: for=1.2.3.4;proto=https;host="[2001:db8::1]:444"', CLAIMS[3]], "https://[2001:db8::1]:444/films/in/files"),
    ],
)  # fmt: skip
@ensureDeferred
async def test_behind_a_trusted_proxy(headers: list[str], found: str) -> None:
    async with memory_service() as service:
        assert await locations(behind(service, TRUSTED), headers) == {found}


@pytest.mark.parametrize("headers", [CLAIMS, ["Forwarded: for=203.0.113.9;proto=https;host=evil.example"]])
@pytest.mark.parametrize("proxies", [UNTRUSTED, Proxies()])
@ensureDeferred
async def test_what_others_say_counts_for_nothing(proxies: Proxies, headers: list[str]) -> None:
    async with memory_service() as service:
        assert await locations(behind(service, proxies), headers) == {"http://test/files"}


@pytest.mark.parametrize("headers", [[], CLAIMS])
@pytest.mark.parametrize("trusted", [[], ["192.168.0.0/16"]])
@ensureDeferred
async def test_the_public_url_wins(trusted: list[str], headers: list[str]) -> None:
    """Whatever anybody says; it may have a path."""
    async with memory_service() as service:
        found = await locations(behind(service, Proxies(trusted, "https://cdn.example.com:444/in")), headers)
        assert found == {"https://cdn.example.com:444/in/files"}


@ensureDeferred
async def test_the_upload_goes_on_there() -> None:
    """The proxy takes the prefix away again: what is left of the Location is the upload."""
    async with memory_service() as service:
        behind(service, TRUSTED)
        made = await service.ask("POST", "/files/", [V, f"Upload-Length: {len(DATA)}", *CLAIMS])
        location = made.header("Location") or ""
        path = location.removeprefix("https://up.example.com:8443/films/in")
        assert path.startswith("/files/")
        assert (await patch(service, path, 0, DATA, *CLAIMS)).status == 204
