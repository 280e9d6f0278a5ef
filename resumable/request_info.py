"""What is known of the request that is being served: for the log, the main application, and events."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextvars import ContextVar
from secrets import token_hex

from attrs import define

#: A client's own id that is taken: printable ASCII without blanks at its ends, at most 128 bytes.
_SANE = re.compile(rb"[!-~](?:[ -~]{0,126}[!-~])?")


@define
class RequestInfo:
    """What is known of a request.

    :ivar id: the client's ``X-Request-Id`` if that can be taken, else one made here.
    :ivar upload: the id of the upload that it is about; empty while that is not known.
    :ivar owner: of that upload, as the main application names the caller.
    :ivar reason: why it was refused.
    :ivar quiet: whether a refusal is no news, as that of a probe that comes every few seconds.
    """

    id: str
    upload: str = ""
    owner: str = ""
    reason: str = ""
    quiet: bool = False


#: Each coroutine, and what it starts, has its own value.
_serving: ContextVar[RequestInfo | None] = ContextVar("resumable.request", default=None)


def id_from(sent: Sequence[bytes]) -> str:
    """Return the id of a request, given the lines of its ``X-Request-Id``."""
    if len(sent) == 1 and _SANE.fullmatch(sent[0]) is not None:
        return sent[0].decode("ascii")
    return token_hex(8)


def serve(info: RequestInfo) -> None:
    """Say that the coroutine which calls this serves a request from now on."""
    _serving.set(info)


def current() -> RequestInfo | None:
    """Return what is known of the request that the caller serves; None where it serves none."""
    return _serving.get()


def note(*, upload: str | None = None, owner: str | None = None) -> None:
    """Note what has become known of the request that the caller serves; None: nothing new."""
    info = _serving.get()
    if info is not None:
        info.upload = info.upload if upload is None else upload
        info.owner = info.owner if owner is None else owner
