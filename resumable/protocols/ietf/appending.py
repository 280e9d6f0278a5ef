"""Bytes that are appended to an upload: where they may begin, where they have to end, and when that is all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from attrs import evolve

from resumable.model import Invalid, OffsetMismatch, PastEnd, TooLarge, Upload, UploadError
from resumable.protocols.access import AuthorizedUploads
from resumable.protocols.digests import digests_of
from resumable.protocols.empty_body import EmptyBody
from resumable.protocols.ietf.fields import Fields
from resumable.protocols.ietf.problems import Completed, InconsistentLength, Limited
from resumable.protocols.messages import Request
from resumable.uploads.registry import Body, Span
from resumable.uploads.result import Report

#: The protocol whose uploads end when a request says so, whatever their length is. It is what this folder speaks.
NAME = "ietf"

#: Called with the upload's offset (bytes) as more of a body is acknowledged.
Tell: TypeAlias = Callable[[int], None]


def total_of(request: Request, said: Fields, offset: int) -> int | None:
    """Return the length of the whole upload, as far as a request says it (4.1.3).

    :param offset: where its body begins (bytes).
    :raises InconsistentLength: it says two.
    """
    end = _end(request, offset) if said.complete else None
    if end is not None and said.length not in (None, end):
        raise InconsistentLength(f"the upload would end at byte {end}, and Upload-Length is {said.length}")
    return said.length if end is None else end


async def agree(access: AuthorizedUploads, upload: Upload, request: Request, said: Fields, total: int | None) -> Upload:
    """See whether a request to append agrees with the length, and remember that if it says it first. Return the upload.

    :param total: what `total_of` has returned.
    :raises OffsetMismatch: the body begins elsewhere, and so nothing else it says counts.
    :raises InconsistentLength: it does not agree. If its body goes past the end, an upload of this protocol is ended (4.4.2).
    :raises TooLarge: the length is more than is allowed.
    """
    known, end = upload.announced, _end(request, said.offset or 0)
    if known is None:
        # Where the end of the body is that of the upload, that is said as soon as its offset has turned out to be right.
        tells = said.length is not None and not (said.complete and end is not None)
        if not tells:
            return upload
        await access.check_offset(upload, said.offset or 0)
        return await _announce(access, upload, said.length or 0, end)
    past = end is not None and end > known
    if past or total not in (None, known):
        await access.check_offset(upload, said.offset or 0)
        if past and said.length in (None, known) and upload.protocol == NAME:
            await access.invalidate(upload, "more was sent than the upload has")
            raise InconsistentLength(f"the body ends at byte {end}, the upload at {known}: it has been given up")
        if past and said.length in (None, known):
            raise InconsistentLength(f"the body ends at byte {end}, the upload at {known}")
        raise InconsistentLength(f"the upload has {known} bytes, not {total}")
    return upload


async def _announce(access: AuthorizedUploads, upload: Upload, length: int, end: int | None) -> Upload:
    if end is not None and end > length:
        raise InconsistentLength(f"the body ends at byte {end}, and Upload-Length is {length}")
    try:
        # Elsewhere an upload ends at its length.
        say = access.announce if upload.protocol == NAME else access.declare
        upload = await say(upload, length)
    except TooLarge as error:
        raise Limited(str(error), access.max_size) from None
    except Invalid as error:
        raise InconsistentLength(str(error)) from None
    if upload.announced != length:
        raise InconsistentLength(f"the upload has {upload.announced} bytes, not {length}")
    return upload


async def replay(access: AuthorizedUploads, upload: Upload, request: Request, said: Fields) -> Report:
    """Return the report on a complete upload to one who brings nothing more, as one does whose last answer was lost.

    :raises OffsetMismatch: it is not at the end, or brings something.
    :raises Completed: it is at the end, and says that there is more to come.
    """
    report = await access.report(upload)
    if said.offset != report.offset or request.length != 0:
        raise OffsetMismatch(f"the upload is complete and has {report.offset} bytes", report.offset)
    if not said.complete:
        raise Completed("the upload is complete")
    return report


async def take(
    access: AuthorizedUploads,
    upload: Upload,
    request: Request,
    said: Fields,
    offset: int,
    *,
    new: bool = False,
    tell: Tell | None = None,
) -> Report:
    """Take the request's body in, and finish the upload if that is what it says.

    Where the end of a body that completes the upload is not known before it comes, it is not complete until it has come. An
    upload that was begun with another protocol ends at its length, if it has one: that there is more to come cannot be said.

    :param offset: where the body begins (bytes).
    :param new: the request has created the upload.
    :param tell: told how far it is, in all (bytes).
    :raises InconsistentLength: the body ends before the upload is said to end, and is kept; or after it, and the upload is
        ended.
    """
    body: Body = EmptyBody() if request.length == 0 else request
    end = _end(request, offset)
    ends = bool(said.complete) and end is not None
    span = Span(offset, upload.announced if end is None else end, last=ends)
    says = ends if ends or upload.protocol == NAME else None
    try:
        checked = evolve(digests_of(request), all_in_one=bool(said.complete) and offset == 0)
        report = await access.receive(
            upload, body, span, new=new, exact=True, ends=says, digests=checked, acknowledged=tell
        )
    except PastEnd as error:
        if upload.protocol != NAME:
            raise InconsistentLength(str(error)) from None
        with suppress(UploadError):
            await access.invalidate(upload, "more was sent than the upload has")
        raise InconsistentLength(f"{error}: the upload has been given up") from None
    except TooLarge as error:
        raise Limited(str(error), access.max_size) from None
    if ends or not said.complete or report.finished:
        return report
    length = report.upload.announced
    if length is not None and report.offset != length:
        raise InconsistentLength(f"the body ended at byte {report.offset}, the upload has {length}")
    span = Span(report.offset, report.offset, last=True)
    return await access.receive(report.upload, EmptyBody(), span, exact=True, ends=True)


def _end(request: Request, offset: int) -> int | None:
    """Return where the body ends (bytes, exclusive); None of one that is chunked."""
    return None if request.length is None else offset + request.length
