"""Who may upload: the main application is asked before anything is done for a request.

A 2xx is a yes, and may say in JSON what the upload is to be. A 4xx is a no, and is passed on to the client. With any
other answer nobody gets in. A yes is remembered for a short time (`resumable.callbacks.authorization_cache`), a no
never.

In the headers that the application gets, what is not ASCII is percent-encoded as UTF-8. In ``X-Upload-Name`` ``%`` and
the space are encoded too. The application always percent-decodes it, and so has the exact name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
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
from resumable.outages import AUTH, Reports
from resumable.request_info import current

log = Logger()

#: The headers of a refusal that are passed on, since they mean the same to the client.
PASSED_ON = (b"WWW-Authenticate", b"Content-Type", b"Retry-After")

#: The header with the id of the client's request: its own, or one that was made here.
REQUEST_ID = "X-Request-Id"

#: Characters that are not percent-encoded in a header.
SAFE = "".join(map(chr, range(0x20, 0x7F)))
SAFE_IN_NAME = SAFE.replace(" ", "").replace("%", "")


@frozen
class AuthorizationRequest:
    """What the application is asked about. A field is None where its value is not known."""

    action: Literal["create", "append", "status", "cancel", "download"]
    method: str
    uri: str
    #: The client's own headers; they may hold credentials.
    headers: Headers = field(repr=False)
    #: The client's address.
    peer: str
    upload_id: str | None = None
    name: str | None = None
    #: Total bytes of the upload.
    length: int | None = None
    content_type: str | None = None
    #: The protocol that the request speaks.
    protocol: str = ""


@frozen
class Grant:
    """A yes, and what the application says with it.

    A field is None where it says nothing; a field of `object` may also be empty.
    """

    owner: str = ""
    bucket: str | None = None
    key: str | None = None
    #: The most bytes that the upload may have.
    max_size: int | None = None
    content_type: str | None = None
    metadata: Mapping[str, str] = field(factory=dict)
    #: The application may set only acl, storage_class, content_disposition, content_encoding and tags of it.
    object: ObjectOptions = field(factory=ObjectOptions)
    #: The URL prefixes to which a browser may be sent after a form.
    redirect: tuple[str, ...] = ()


class Refused(UploadError):
    """The application says no. Its status, headers and body (the first 64 KiB) are for the client."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        super().__init__(f"refused with {status}")
        self.status = status
        self.headers = headers
        self.body = body


class Authorizer(Protocol):
    """Decides about each request, the status query and the resume included."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """Return the grant.

        :raises Refused: the application says no.
        :raises Unavailable: the application gives no usable answer.
        """

    async def close(self) -> None:
        """Close the connections that are kept."""


class AllowAll:
    """Lets everyone in, without an owner: ``auth: open``."""

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """Return a grant that says nothing else."""
        return Grant()

    async def close(self) -> None:
        """Do nothing: there are no connections."""


class CallbackAuthorizer:
    """Asks the application over HTTP, with a GET to `url`.

    Connections are kept between calls. One that turns out to be closed already is replaced once: the pool does that,
    since a GET can be repeated.

    :param forward: names of the client's headers that are passed to the application. Settings refuse those that belong
        to one connection.
    :param timeout: seconds that a call may take, the answer's body included.
    :param cache: seconds for which a yes is used for the very same question.
    :param reports: told whether the application works. None: each failure is logged.
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
        reports: Reports | None = None,
    ) -> None:
        self._caller = Caller(url, timeout=timeout, reactor=reactor)
        self._forward = tuple(forward)
        self._clock = reactor
        self._metrics = metrics or Metrics()
        self._reports = reports
        self._memory: Memory[tuple[ref[AuthorizationRequest], Grant]] = Memory(cache, reactor)

    async def authorize(self, ask: AuthorizationRequest) -> Grant:
        """Return the application's grant.

        :raises Refused: the application says no.
        :raises Unavailable: the application gives no usable answer; the log says why.
        """
        question = self._request_headers(ask)
        asker, grant = await self._memory.recall(question, lambda: self._ask(ask, question))
        if ask.action == "create" and grant.key is not None and asker() is not ask:
            # This key was granted to another upload, whose request had the same headers: a file of the same length,
            # say.
            _, grant = await self._ask(ask, question)
        return grant

    async def _ask(self, ask: AuthorizationRequest, question: Headers) -> tuple[ref[AuthorizationRequest], Grant]:
        """Return the grant, and a reference to its request: a weak one, since the request holds credentials."""
        begun = self._clock.seconds()
        try:
            grant = _judge(await self._caller.call("GET", _with_id(question)))
        except Refused:
            self._measured("refused", begun)
            self._works()
            raise
        except CallFailure as trouble:
            self._measured("unavailable", begun)
            raise self._trouble(trouble) from None
        self._measured("granted", begun)
        self._works()
        return ref(ask), grant

    def _works(self) -> None:
        if self._reports is not None:
            self._reports.worked()

    def _trouble(self, trouble: CallFailure) -> Unavailable:
        """Return what is raised where there is no usable answer. An outage is reported; all else is logged here."""
        says = f"the auth application {trouble.reason}"
        if self._reports is not None and not trouble.unusable:
            self._reports.failed(f"the application at {self._caller.shown} {trouble.reason}{trouble.detail}")
            return Unavailable(says, part=AUTH)
        what = {"app": self._caller.shown, "reason": trouble.reason, "detail": trouble.detail}
        log.warn("the auth application at {app} {reason}{detail}", **what)
        return Unavailable(says)

    async def look(self) -> None:
        """Ask as for a client without credentials, to see whether the application answers. A no is an answer too.

        :raises UploadError: it does not, or it says no.
        """
        ask = AuthorizationRequest("status", "GET", "/", Headers(), "")
        with suppress(Refused):
            await self._ask(ask, self._request_headers(ask))

    def _measured(self, outcome: str, begun: float) -> None:
        self._metrics.authorized(outcome, self._clock.seconds() - begun)

    async def close(self) -> None:
        """Close the connections that are kept; calls under way end by themselves."""
        await self._caller.close()

    def _request_headers(self, ask: AuthorizationRequest) -> Headers:
        headers = Headers()
        for name in self._forward:
            if name == REQUEST_ID.lower():
                continue
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
            # Whatever `forward` names: a client must never set these headers, even where they have no value here.
            headers.removeHeader(title)
            if value is not None:
                # surrogatepass: a name that is not valid text still reaches the application, and differs from other
                # names.
                headers.addRawHeader(title, quote(value, safe=safe, errors="surrogatepass"))
        return headers


def _with_id(question: Headers) -> Headers:
    """Return the question with the id of the request: two questions that differ in that alone are the same."""
    info = current()
    asked = question.copy()
    asked.removeHeader(REQUEST_ID)
    if info is not None:
        asked.addRawHeader(REQUEST_ID, info.id)
    return asked


def _judge(said: Said) -> Grant:
    """Return the grant in an answer; raise `Refused` for a no, and `CallFailure` for what is neither."""
    # 408 says that the application did not get our request, not that it refuses the client's request.
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
        # The errors raised here say what is wrong and where, and quote no more than a byte.
        return Grant(**read_answer(json.loads(said.body.decode("utf-8-sig"))))
    except (ValueError, RecursionError) as error:
        raise CallFailure("gave an answer that cannot be used", str(error), unusable=True) from None
