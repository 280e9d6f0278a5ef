"""The protocol `segments`: nginx-upload-module's resumable uploads (V. Kholodkov, "Resumable uploads over HTTP", 2010).

``POST /upload`` brings a range of a file, in any order and over many connections at once. A session id that the client has
chosen says which ranges belong together; it is the upload's name for its owner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from resumable.model import Invalid, NotFound, State, UnsupportedType, Upload
from resumable.protocols import digests, parameters
from resumable.protocols.access import AuthorizedUploads, Description, Gate, content_encoding_of, content_type_of
from resumable.protocols.base import Plain, Spoken, Target
from resumable.protocols.content_range import ContentRange, parse_content_range
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.messages import RANGE_LIMIT, Request
from resumable.protocols.names import parse_name
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.uploads.registry import Span
from resumable.uploads.result import Report

NAME = "segments"
PATH = b"/upload"
#: Under this name the file's own name is kept in the metadata.
FILE_NAME = "filename"

SESSION_HEADERS = (b"x-session-id", b"session-id")
RANGE_HEADERS = (b"x-content-range", b"content-range")
_SESSION = re.compile(rb"[A-Za-z0-9_-]{1,255}", re.ASCII)


class SegmentsProtocol(Plain):
    """Uploads that are known by their owner and a session id."""

    name = NAME
    spoken = Spoken(
        methods=("POST",),
        sent=(
            "Content-Range",
            "X-Content-Range",
            "Session-ID",
            "X-Session-ID",
            "Content-Disposition",
            "Content-Encoding",
            *digests.SENT,
        ),
        read=("Range", *digests.READ),
    )

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._results = results

    def match(self, request: Request) -> Target | None:
        """Match ``POST`` to ``/upload`` and below it, with a session id and a range."""
        said = request.requestHeaders
        if request.method != b"POST" or not (_has(request, SESSION_HEADERS) and _has(request, RANGE_HEADERS)):
            return None
        if said.hasHeader(b"x-goog-upload-command"):
            return None
        if request.path == PATH:
            return Target()
        return Target(name=request.path[len(PATH) + 1 :]) if request.path.startswith(PATH + b"/") else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        session = read_session(request)
        brought, total = read_range(request)
        if (content_type_of(request) or "").lower().startswith("multipart/form-data"):
            raise UnsupportedType("Content-Type is that of the file, not multipart/form-data")
        file_name = read_file_name(request, target.name)
        metadata = {FILE_NAME: file_name} if file_name else {}
        said = Description(
            session,
            total,
            content_type_of(request),
            content_encoding_of(request),
            metadata,
            swarm=True,
            digests=digests.digests_of(request).whole,
        )
        access = await self._gate.authorize(request, "create", description=said)
        upload, new = await self._find_or_begin(access, said)
        if upload.length != total:
            raise Invalid(f"this session's file has {upload.length} bytes, not {total}")
        report = await self._receive(access, request, upload, brought, new=new)
        return await self._answer(request, report)

    async def _find_or_begin(self, access: AuthorizedUploads, said: Description) -> tuple[Upload, bool]:
        """Return the session's upload, and whether it is new. Whichever segment comes first begins it.

        A session that has ended may be begun again, where the request cannot be the repeat of one of its own.
        """
        try:
            upload = await access.find(said.name or "")
        except NotFound:
            return await access.join(said)
        over = upload.state is State.FAILED or (upload.state is State.FINISHED and upload.length != said.length)
        return await access.join(said) if over else (upload, False)

    async def _receive(
        self, access: AuthorizedUploads, request: Request, upload: Upload, brought: ContentRange, *, new: bool
    ) -> Report:
        if upload.length == 0:
            if upload.state is State.FINISHED:
                return await access.report(upload)
            return await access.receive(upload, EmptyBody(), Span(0, 0, last=True), new=new)
        checked = digests.digests_of(request)
        span = Span(brought.first or 0, brought.end)
        if upload.state is State.FINISHED:
            # Its answer may have been lost.
            return await access.compare(upload, request, span, checked)
        return await access.receive(upload, request, span, new=new, digests=checked)

    async def _answer(self, request: Request, report: Report) -> Response:
        """Return 201 and what has come; at the end 200 and the result."""
        if report.finished:
            return digests.with_digests(request, report, await self._results.answer(report))
        shown = ranges_text(report.coverage.ranges, report.upload.length or 0)
        fields = {"Content-Type": "text/plain", **({"Range": shown} if shown else {})}
        return Response(201, shown.encode("ascii"), fields)


def ranges_text(stored: Iterable[tuple[int, int]], total: int) -> str:
    """Return ranges as the module writes them: ``0-51200/511920,102401-153600/511920``, last bytes included.

    What does not fit into a header that every proxy takes is left out.

    :param stored: ranges ``[first, end)`` that have no byte in common.
    :param total: bytes of the file.
    """
    shown = ""
    for first, end in sorted(stored):
        following = f"{',' if shown else ''}{first}-{end - 1}/{total}"
        if len(shown) + len(following) > RANGE_LIMIT:
            break
        shown += following
    return shown


def read_session(request: Request) -> str:
    """Return the id of the session.

    :raises Invalid: it is none: letters, digits, ``_`` and ``-`` make one.
    """
    lines = _lines(request, SESSION_HEADERS)
    if len(set(lines)) != 1 or not _SESSION.fullmatch(lines[0]):
        raise Invalid("X-Session-ID is one word of letters, digits, _ and -, of at most 255 characters")
    return lines[0].decode("ascii")


def read_range(request: Request) -> tuple[ContentRange, int]:
    """Return the range that is brought, and the file's bytes.

    :raises Invalid: it is no range with a total, or contradicts itself or the body's length.
    """
    lines = _lines(request, RANGE_HEADERS)
    brought = parse_content_range(sorted(set(lines)), request.length)
    if brought is None or brought.total is None or (brought.first is None and (brought.total or request.length)):
        raise Invalid("say X-Content-Range: bytes F-L/T")
    return brought, brought.total


def read_file_name(request: Request, path: bytes | None) -> str | None:
    """Return the name of the file: what the URL says, or else the last segment of Content-Disposition's.

    :param path: the rest of the URL's path, percent-encoded.
    """
    if path:
        return parse_name(path)
    lines = request.requestHeaders.getRawHeaders(b"content-disposition", [])
    if not lines:
        return None
    # The module's own document has a comma in place of the semicolon.
    said = re.sub(r"^\s*([A-Za-z-]+)\s*,", r"\1;", lines[-1].decode("utf-8", "replace"))
    _, found = parameters.read_parameters(said)
    file_name = parameters.read_file_name(found)
    if file_name is None:
        # In a charset that is not known here. A name that is not quite right is better than none.
        file_name = unquote_to_bytes(found.get("filename*", "").rpartition("'")[2]).decode("latin-1")
    return parameters.last_segment(file_name).strip() or None


def _lines(request: Request, names: Iterable[bytes]) -> list[bytes]:
    return [line.strip() for name in names for line in request.requestHeaders.getRawHeaders(name, [])]


def _has(request: Request, names: Iterable[bytes]) -> bool:
    return any(request.requestHeaders.hasHeader(name) for name in names)
