"""Who may upload: the main application is asked before anything is done for a request.

The application says yes with 2xx, and may say in JSON what the upload is to be; its 4xx is passed on to the client; all
else lets nobody in. A yes is remembered for a short time (`resumable.callbacks.authorization_cache`), a no never.

In the headers it gets, what is not ASCII is percent-encoded as UTF-8. ``X-Upload-Name`` is always to be percent-decoded
by the application: in it ``%`` and the space are encoded too, so that decoding gives the very name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Literal, Protocol
from urllib.parse import quote
from weakref import ref

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from resumable.callbacks.answers import read_answer
from resumable.callbacks.authorization_cache import Memory
from resumable.callbacks.caller import MAX_ANSWER, Caller, CallFailure, Said
from resumable.metrics import Metrics
from resumable.model import ObjectOptions, Unavailable, UploadError

log = Logger()

#: Of a refusal's headers, those that mean the same to the client.
PASSED_ON = (b"WWW-Authenticate", b"Content-Type", b"Retry-After")

#: Characters that a header is sent with as they are.
SAFE = "".join(map(chr, range(0x20, 0x7F)))
SAFE_IN_NAME = SAFE.replace(" ", "").replace("%", "")


@frozen
class AuthorizationRequest:
    """What the application is asked about; None where it is not known."""

    action: Literal["create", "append", "status", "cancel"]
    method: str
    uri: str
    #: The client's own; they may hold credentials.
    headers: Headers = field(repr=False)
    #: The client's address.
    peer: str
    upload_id: str | None = None
    name: str | None = None
    #: Bytes of the whole upload.
    length: int | None = None
    content_type: str | None = None
    #: The protocol that the request speaks.
    protocol: str = ""


@frozen
class Grant:
    """A yes, and what goes with it; None (in `object` also: empty) where the application does not say."""

    owner: str = ""
    bucket: str | None = None
    key: str | None = None
    #: Bytes.
    max_size: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    #: Its acl, storage_class, content_disposition, content_encoding and tags alone are the application's to say.
    object: ObjectOptions = field(factory=ObjectOptions)


class Refused(UploadError):
    """A no, with the application's own status, headers and body (its first 64 KiB) for the client."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.headers = headers
        self.body = body


class Authorizer(Protocol):
    """Who is asked for each request, the status query and the resume included."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """The application's yes; raises `Refused` for its no, and `Unavailable` where neither can be had."""

    async def close(self) -> None:
        """Let go of connections."""


class AllowAll:
    """Lets everyone in, as nobody in particular: ``auth: open``."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """A plain yes."""
        return Grant()

    async def close(self) -> None:
        """Nothing to let go of."""


class CallbackAuthorizer:
    """Asks the application over HTTP, with a GET to `url`.

    `forward` names the client's headers that are shown to it (settings refuse those that belong to one connection),
    `timeout` (seconds) bounds a call, body included, and `cache` (seconds) is how long a yes counts for the very same
    question. Connections are kept between calls; one that turns out to be closed already is replaced once, which is the
    pool's doing since a GET can be repeated.
    """

    def __init__(
        self,
        *,
        url: str,
        forward: Collection[str],
        timeout: float,
        reactor: IReactorTime,
        cache: float = 0.0,
        metrics: Metrics | None = None,
    ) -> None:
        self._caller = Caller(url, timeout=timeout, reactor=reactor)
        self._forward = tuple(forward)
        self._clock = reactor
        self._metrics = metrics or Metrics()
        self._memory: Memory[tuple[ref[AuthorizationRequest], Grant]] = Memory(cache, reactor)

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """The application's yes.

        :raises Refused: for its no.
        :raises Unavailable: where neither can be had; the log says why.
        """
        question = self._request_headers(ask)
        asker, grant = await self._memory.recall(question, lambda: self._ask(ask, question))
        if ask.action == "create" and grant.key is not None and asker() is not ask:
            # That is another upload's object, though it was asked for in the same words: two files of a length, say.
            _, grant = await self._ask(ask, question)
        return grant

    async def _ask(self, ask: AuthorizationRequest, question: Headers) -> tuple[ref[AuthorizationRequest], Grant]:
        """The grant, and who has asked for it: weakly, for it holds credentials."""
        begun = self._clock.seconds()
        try:
            grant = _judge(await self._caller.call("GET", question))
        except Refused:
            self._measured("refused", begun)
            raise
        except CallFailure as trouble:
            self._measured("unavailable", begun)
            what = {"app": self._caller.shown, "reason": trouble.reason, "detail": trouble.detail}
            log.warn("the auth application at {app} {reason}{detail}", **what)
            raise Unavailable(f"the auth application {trouble.reason}") from None
        self._measured("granted", begun)
        return ref(ask), grant

    def _measured(self, outcome: str, begun: float) -> None:
        self._metrics.authorized(outcome, self._clock.seconds() - begun)

    async def close(self) -> None:
        """Close the connections that are kept; calls under way end by themselves."""
        await self._caller.close()

    def _request_headers(self, ask: AuthorizationRequest) -> Headers:
        headers = Headers()
        for name in self._forward:
            for line in ask.headers.getRawHeaders(name.encode(), []):
                headers.addRawHeader(name.encode(), line)
        for title, value, safe in (
            ("X-Original-Method", ask.method, SAFE),
            ("X-Original-URI", ask.uri, SAFE),
            ("X-Forwarded-For", ask.peer or None, SAFE),
            ("X-Upload-Action", ask.action, SAFE),
            ("X-Upload-Protocol", ask.protocol or None, SAFE),
            ("X-Upload-Id", ask.upload_id, SAFE),
            ("X-Upload-Name", ask.name, SAFE_IN_NAME),
            ("X-Upload-Length", None if ask.length is None else str(ask.length), SAFE),
            ("X-Upload-Content-Type", ask.content_type, SAFE),
        ):
            # Whatever is configured: what we say must not be said by the client, also where we say nothing.
            headers.removeHeader(title)
            if value is not None:
                # surrogatepass: a name that is not quite text still reaches the application as something of its own.
                headers.addRawHeader(title, quote(value, safe=safe, errors="surrogatepass"))
        return headers


def _judge(said: Said) -> Grant:
    """What an answer comes to: a grant, `Refused` where it is a no, `CallFailure` where it is neither."""
    # 408 says that the application did not get our request, not that it refuses the client's.
    if 400 <= said.status < 500 and said.status != 408:
        kept = {name: said.headers.getRawHeaders(name, []) for name in PASSED_ON}
        headers = Headers({name: lines for name, lines in kept.items() if lines})
        raise Refused(said.status, headers, said.body[:MAX_ANSWER])
    if not 200 <= said.status < 300:
        raise CallFailure(f"answered {said.status}")
    kind = (said.header(b"content-type") or "").partition(";")[0].strip().lower()
    if not (kind == "application/json" or kind.endswith("+json")) or not said.body.strip():
        return Grant()
    try:
        if len(said.body) > MAX_ANSWER:
            raise ValueError(f"longer than {MAX_ANSWER} bytes")
        # Its errors say what and where, and quote no more than a byte.
        return Grant(**read_answer(json.loads(said.body.decode("utf-8-sig"))))
    except (ValueError, RecursionError) as error:
        raise CallFailure("gave an answer that cannot be used", str(error)) from None
