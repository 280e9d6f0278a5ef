"""Uploads of one request: the object alone (``uploadType=media``), or its metadata and the object (``uploadType=multipart``).

Nobody can go on with them, for nobody is told where: what comes of one that breaks off is given up.
"""

from __future__ import annotations

from attrs import evolve

from resumable.model import Invalid, UnsupportedType
from resumable.protocols.access import Description, Gate, content_encoding_of, content_type_of
from resumable.protocols.digests import digests_in, digests_of, refuse_body_digest
from resumable.protocols.google.answers import Answers
from resumable.protocols.google.hashes import md5_digest
from resumable.protocols.google.metadata import (
    MOST,
    Resource,
    announced_length,
    announced_type,
    describe,
    read_resource,
)
from resumable.protocols.google.paths import GoogleTarget, bucket_of
from resumable.protocols.messages import Request
from resumable.protocols.multipart_body import MultipartBody, Part
from resumable.protocols.response import Response
from resumable.protocols.small_body import SmallBodies
from resumable.uploads.digest import BodyDigest, Digests
from resumable.uploads.registry import Body, Span

#: Metadata, and the object.
PARTS = 2
#: Encodings of a part that leave its bytes as they are (RFC 2045, 6.2).
AS_THEY_ARE = ("", "binary", "8bit", "7bit")


class SimpleUploads:
    """Takes uploads of one request."""

    def __init__(self, gate: Gate, answers: Answers, descriptions: SmallBodies) -> None:
        """:param descriptions: what is read before the main application has been asked."""
        self._gate = gate
        self._answers = answers
        self._descriptions = descriptions

    async def media(self, request: Request, target: GoogleTarget) -> Response:
        """Take an object whose bytes are the body."""
        kind = announced_type(request) or content_type_of(request)
        resource = Resource(content_encoding=content_encoding_of(request))
        said = describe(request, target, resource, length=request.length, content_type=kind)
        return await self._take(request, target, said, request, md5_digest(request), digests_of(request))

    async def multipart(self, request: Request, target: GoogleTarget) -> Response:
        """Take an object whose metadata comes before it in the body. Its bytes stream like any others."""
        kind = content_type_of(request)
        if (kind or "").partition(";")[0].strip().lower() != "multipart/related":
            raise UnsupportedType("uploadType=multipart takes a body of the type multipart/related")
        async with MultipartBody(request, kind or "", PARTS) as parts:
            resource = await self._resource(await parts.next_part())
            part = await parts.next_part()
            if part is None:
                raise Invalid("the multipart body has no part with the object's bytes")
            _check_encoding(part)
            type_of_part = announced_type(request) or _header(part, b"content-type")
            said = describe(request, target, resource, length=announced_length(request), content_type=type_of_part)
            refuse_body_digest(request)
            digest = md5_digest(request, resource.md5)
            return await self._take(request, target, said, part, digest, digests_in(part.headers))

    async def _resource(self, part: Part | None) -> Resource:
        if part is None:
            raise Invalid("the multipart body has no parts")
        _check_encoding(part)
        async with self._descriptions.of(part, MOST) as body:
            return read_resource(body, _header(part, b"content-type"))

    async def _take(
        self,
        request: Request,
        target: GoogleTarget,
        said: Description,
        body: Body,
        digest: BodyDigest | None,
        digests: Digests,
    ) -> Response:
        """Create the upload and take all of its bytes.

        :param digest: of the body. It holds the bytes back until they are all there, which costs nothing here: what breaks off
            is given up in any case.
        :param digests: what is said beside that.
        """
        said = evolve(said, digests=digests.whole)
        access = await self._gate.authorize(request, "create", description=said)
        if target.bucket is not None:
            access.check_bucket(bucket_of(target))
        upload = await access.create(said, whole=True)
        async with access.untold(upload):
            span = Span(0, said.length, last=True)
            report = await access.receive(upload, body, span, new=True, digest=digest, digests=digests)
        return await self._answers.of(request, report, target.family)


def _check_encoding(part: Part) -> None:
    """Check that a part's bytes are its content.

    :raises UnsupportedType: they are encoded, in base64 for example: nothing is decoded here.
    """
    if (_header(part, b"content-transfer-encoding") or "").strip().lower() not in AS_THEY_ARE:
        raise UnsupportedType("the parts of the body have to be binary: no Content-Transfer-Encoding is undone here")


def _header(part: Part, name: bytes) -> str | None:
    lines = part.headers.getRawHeaders(name)
    return lines[-1].decode("latin-1") or None if lines else None
