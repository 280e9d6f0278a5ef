"""What every protocol asks the main application, and what its word makes of a request to create."""

from __future__ import annotations

from typing import Literal

from resumable.callbacks.authorizer import AuthorizationRequest, Authorizer, Grant
from resumable.model import NotFound, ObjectOptions
from resumable.protocols.messages import Request
from resumable.uploads import values
from resumable.uploads.policy import CreateRequest
from resumable.uploads.sender import Confirm

Action = Literal["create", "append", "status", "cancel"]


def ask_for(
    request: Request,
    action: Action,
    *,
    upload_id: str | None = None,
    name: str | None = None,
    length: int | None = None,
) -> AuthorizationRequest:
    """The question whether the sender of `request` may do `action`.

    :raises Unsupported: it brings a body that is encoded in a way that cannot be kept.
    """
    if action in ("create", "append"):
        content_encoding_of(request)
    return AuthorizationRequest(
        action=action,
        method=request.method.decode("latin-1"),
        uri=request.uri.decode("latin-1"),
        headers=request.requestHeaders,
        peer=request.origin.client,
        upload_id=upload_id,
        name=name,
        length=length,
        content_type=content_type_of(request),
    )


def asked_again(authorizer: Authorizer, ask: AuthorizationRequest, grant: Grant) -> Confirm:
    """For `UploadService.receive`: asks once more what was answered by `grant`; as long as that is remembered it still counts.

    It raises what the application's refusal is, and `NotFound` where the client is now somebody else.
    """

    async def confirm() -> None:
        if (await authorizer.authorize(ask)).owner != grant.owner:
            raise NotFound("no such upload")

    return confirm


def content_type_of(request: Request) -> str | None:
    """The Content-Type of the request's body."""
    values = request.requestHeaders.getRawHeaders(b"content-type")
    return values[-1].decode("latin-1") if values else None


def content_encoding_of(request: Request) -> str | None:
    """The Content-Encoding of the request's body.

    :raises Unsupported: it is no list of codings, or one of them is undone by nobody but S3.
    """
    lines = request.requestHeaders.getRawHeaders(b"content-encoding")
    if not lines:
        return None
    with values.from_client():
        return values.check_content_encoding(",".join(line.decode("latin-1") for line in lines))


def wish_of(request: Request, grant: Grant, *, protocol: str, name: str, length: int | None) -> CreateRequest:
    """The upload that the client asks for, as the main application has allowed it: its word comes before the client's."""
    given = grant.object
    return CreateRequest(
        protocol=protocol,
        name=name,
        owner=grant.owner,
        length=length,
        max_size=grant.max_size,
        bucket=grant.bucket,
        key=grant.key,
        options=ObjectOptions(
            content_type=grant.content_type or content_type_of(request),
            metadata=dict(grant.metadata),
            acl=given.acl,
            storage_class=given.storage_class,
            cache_control=given.cache_control,
            content_disposition=given.content_disposition,
            content_encoding=given.content_encoding or content_encoding_of(request),
            tags=dict(given.tags),
        ),
    )
