"""HTML forms: ``POST /upload`` and ``POST /upload/<name>`` with ``multipart/form-data``. Each file of a form is an upload.

A form cannot be resumed. A file is finished when its part has ended, whatever comes after it; one whose part breaks off is
given up at once, and nothing of it stays.
"""

from __future__ import annotations

import json
from typing import Any

from attrs import evolve, field, frozen
from twisted.logger import Logger

from resumable.model import Invalid, TooLarge, Unavailable, UnsupportedType, Upload, UploadError
from resumable.protocols.access import AuthorizedUploads, Description, Gate, content_encoding_of, content_type_of
from resumable.protocols.base import Plain, Spoken, Target
from resumable.protocols.digests import digests_in, refuse_body_digest
from resumable.protocols.form.fields import Fields, check_encoding, read_field
from resumable.protocols.messages import Request, json_response
from resumable.protocols.multipart_body import MultipartBody, Part
from resumable.protocols.names import check_name, parse_name
from resumable.protocols.parameters import last_segment, read_parameters
from resumable.protocols.response import Response, problem
from resumable.protocols.results import Results
from resumable.uploads.registry import Span
from resumable.uploads.result import Report, as_json

log = Logger()

NAME = "form"
PATH = b"/upload"
TYPE = "multipart/form-data"
#: The most parts of a form, fields and files together.
MOST_PARTS = 1000
#: Bytes that a form may have beside its files, when its size is judged by its Content-Length.
BESIDE = 1 << 20


class FormProtocol(Plain):
    """Uploads by a browser without a script, by ``curl -F``, and by whatever else can send a form."""

    name = NAME
    spoken = Spoken(methods=("POST",))

    def __init__(self, gate: Gate, results: Results) -> None:
        self._gate = gate
        self._results = results

    def match(self, request: Request) -> Target | None:
        """Match ``/upload``, and forms that are posted below it."""
        if request.path == PATH:
            return Target()
        below = request.path.startswith(PATH + b"/") and request.method == b"POST" and _is_form(request)
        return Target(name=request.path[len(PATH) + 1 :]) if below else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        if request.method != b"POST":
            return problem(
                405, "use POST to send a form, PUT /upload/<name> for the bytes of a file", {"Allow": "POST"}
            )
        if not _is_form(request) or content_encoding_of(request) is not None:
            raise UnsupportedType(f"a form has to be sent as {TYPE}, without a Content-Encoding")
        refuse_body_digest(request)
        form = _Form(self._gate, request, _Place.of(target))
        try:
            async with MultipartBody(request, content_type_of(request) or "", MOST_PARTS) as parts:
                async for part in parts:
                    await form.take(part, parts)
            return await form.answer(self._results)
        except UploadError as error:
            return _with_finished(self.render_error(request, error), form.reports)


def _is_form(request: Request) -> bool:
    return read_parameters(content_type_of(request) or "")[0] == TYPE


@frozen
class _Place:
    """What the URL says of the files' names.

    :ivar name: of the one file that the form may have; None where each is called by its own name.
    :ivar folder: stands before the files' own names: nothing, or a path that ends in a slash.
    """

    name: str | None = None
    folder: str = ""

    @classmethod
    def of(cls, target: Target) -> _Place:
        """Return what a URL says. One that ends in a slash is a folder.

        :raises Invalid: no upload can be called so.
        """
        if not target.name:
            return cls()
        name = parse_name(target.name)
        return cls(folder=name) if name.endswith("/") else cls(name)

    def name_of(self, file_name: str) -> str:
        """Return the name of the upload of a file.

        :raises Invalid: no upload can have it.
        """
        return self.name or check_name(self.folder + last_segment(file_name))


@frozen
class _Form:
    """One form, and what has come of it.

    :ivar reports: on the uploads that are finished.
    """

    _gate: Gate
    _request: Request
    _place: _Place
    _fields: Fields = field(factory=Fields)
    _granted: list[AuthorizedUploads] = field(factory=list)
    reports: list[Report] = field(factory=list)

    async def take(self, part: Part, parts: MultipartBody) -> None:
        """Take a field, or the bytes of a file.

        :raises UploadError: the form ends here. What `reports` has stays.
        """
        check_encoding(part)
        if part.filename is None:
            self._fields.add(*await read_field(part))
        elif part.filename == "":
            await _skip_nothing(part)
        else:
            await self._take_file(part, part.filename, parts)

    async def _take_file(self, part: Part, file_name: str, parts: MultipartBody) -> None:
        if self._place.name is not None and self.reports:
            raise Invalid(
                "this URL names one file, and the first of the form is stored under it; "
                "send several to /upload, or to a URL that ends in a slash"
            )
        types = part.headers.getRawHeaders(b"content-type", [])
        content_type = types[-1].decode("latin-1") if types and types[-1] else None
        checked = digests_in(part.headers)
        said = Description(
            self._place.name_of(file_name),
            None,
            content_type,
            metadata=self._fields.as_metadata(),
            digests=checked.whole,
        )
        access = await self._gate.authorize(self._request, "create", description=said)
        self._check_size(access, parts)
        upload = await access.create(said)
        try:
            self._check_key(upload)
            report = await access.receive(upload, part, Span(0, None, last=True), new=True, digests=checked)
        except Exception:
            # Its client can neither find it nor go on with it.
            await _abandon(access, upload)
            raise
        self.reports.append(report)
        self._granted.append(access)

    def _check_key(self, upload: Upload) -> None:
        """Refuse a file that would take the place of another one of the form: cameras give many files the same name.

        :raises Invalid: it has the same key.
        """
        taken = {(report.upload.bucket, report.upload.key) for report in self.reports}
        if (upload.bucket, upload.key) in taken:
            raise Invalid("two files of the form have the same name; the first is stored under it")

    def _check_size(self, access: AuthorizedUploads, parts: MultipartBody) -> None:
        """Refuse what cannot fit in the files that may come, before it comes. How long one of them is nobody says.

        :raises TooLarge: there is more to come than that.
        """
        if self._request.length is None:
            return
        files = 1 if self._place.name is not None else MOST_PARTS
        if self._request.length - parts.past > access.max_size * files + BESIDE:
            raise TooLarge(f"the form has more bytes than the {access.max_size} allowed for a file")

    async def answer(self, results: Results) -> Response:
        """Return the answer to a form that is whole.

        What the main application says (`events.wait`) to one file is the answer; to several, the first that is no 2xx.

        :raises Invalid: there was no file.
        :raises Unavailable: the application is to be waited for, and cannot be reached.
        """
        if not self.reports:
            raise Invalid("the form has no file: a file's part has a filename that is not empty")
        answers = [await results.answer(report) for report in self.reports]
        for answer in answers:
            if not 200 <= answer.status < 300:
                return answer
        where = self._fields.redirect
        if where is not None and all(access.may_redirect(where) for access in self._granted):
            return Response(303, headers={"Location": where})
        return answers[0] if len(answers) == 1 else json_response(200, _listed(self.reports))


async def _skip_nothing(part: Part) -> None:
    """Skip the part that a browser sends for a file field where no file was chosen.

    :raises Invalid: there are bytes in it.
    """
    try:
        await part.read(0)
    except TooLarge:
        raise Invalid("a file of the form has an empty name") from None


async def _abandon(access: AuthorizedUploads, upload: Upload) -> None:
    try:
        await access.abandon(upload)
    except Unavailable as error:
        # The cleaning ends it, as it ends what a process that died leaves.
        log.warn("upload {id} of a form is not given up yet: {error}", id=upload.id, error=str(error))


def _listed(reports: list[Report]) -> dict[str, Any]:
    return {"uploads": [as_json(report) for report in reports]}


def _with_finished(response: Response, reports: list[Report]) -> Response:
    """Return an answer that also says which files are stored all the same, where it is a problem of our own form."""
    if not reports or ("Content-Type", "application/problem+json") not in response.headers:
        return response
    return evolve(response, body=json.dumps({**json.loads(response.body), **_listed(reports)}).encode() + b"\n")
