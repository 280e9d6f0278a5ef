"""Serves the page's files. They are read once; nobody is authorised, for there is nothing secret in them."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib.resources import files

from attrs import frozen

from resumable.protocols.messages import Request
from resumable.protocols.response import ALLOW_ORIGIN, Response, problem

#: Serves a path; as `resumable.web.router.Page`.
Page = Callable[[Request], Awaitable[Response]]

#: Where the page finds what is stored, if that may be shown.
STORED = b"/page/stored"
#: Stands in index.html where it is said whether `STORED` is there.
STORED_MARK = b'data-stored="no"'

#: By the ends of the files' names.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".ts": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: What the page may load and reach: its own origin, and nothing that stands in the page itself (CSP level 3).
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
#: On each of the files. A browser may keep them, and asks each time whether they are still the same.
COMMON = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    ALLOW_ORIGIN: "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@frozen
class StaticFile:
    """A file as it is served.

    :ivar etag: with its quotes (RFC 9110, 8.8.3).
    """

    body: bytes
    content_type: str
    etag: str

    @classmethod
    def of(cls, name: str, body: bytes) -> StaticFile:
        """Return the file with this name and these bytes."""
        return cls(body, TYPES["." + name.rpartition(".")[2]], f'"{hashlib.sha256(body).hexdigest()[:32]}"')

    async def answer(self, request: Request) -> Response:
        """Answer GET and HEAD: the file, or 304 to whoever has it."""
        if request.method not in (b"GET", b"HEAD"):
            return problem(405, "use GET; uploads go to /upload/<name>", {"Allow": "GET, HEAD"})
        headers = {**COMMON, "ETag": self.etag}
        if has_it(request.requestHeaders.getRawHeaders(b"if-none-match", []), self.etag):
            return Response(304, headers=headers)
        return Response(200, self.body, {**headers, "Content-Type": self.content_type})


def has_it(lines: Sequence[bytes], etag: str) -> bool:
    """Say whether If-None-Match (RFC 9110, 13.1.2) names the tag. It is compared weakly: proxies that compress weaken it.

    :param lines: the header's values.
    """
    named = [one.strip().removeprefix("W/") for one in b",".join(lines).decode("latin-1").split(",")]
    return "*" in named or etag in named


def make_pages(stored: Page | None = None) -> dict[bytes, Page]:
    """Return what serves the page, by whole paths: no path of a request ever becomes a file's.

    :param stored: what answers `STORED`; None where it is not shown what is stored.
    """
    found = {
        path: StaticFile.of(name, body).answer for path, (name, body) in _contents(shown=stored is not None).items()
    }
    return dict(found) if stored is None else {**found, STORED: stored}


def _contents(*, shown: bool) -> Mapping[bytes, tuple[str, bytes]]:
    """Return the names and bytes of the files, by their paths."""
    contents: dict[bytes, tuple[str, bytes]] = {}
    for file in files("resumable.page").joinpath("files").iterdir():
        body = file.read_bytes()
        if file.name == "index.html":
            assert STORED_MARK in body, "the page asks for what is stored where it may"
            contents[b"/"] = file.name, body.replace(STORED_MARK, b'data-stored="yes"') if shown else body
        else:
            contents[b"/page/" + file.name.encode()] = file.name, body
    for name in ("resumable.js", "resumable.d.ts"):
        contents[b"/" + name.encode()] = name, files("resumable.page").joinpath("js", name).read_bytes()
    return contents
