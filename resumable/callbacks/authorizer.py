"""Who may upload: the main application is asked before anything is done for a request.

The application says yes with 2xx, and may say in JSON what the upload is to be; its 4xx is passed on to the client; all
else lets nobody in. A yes is remembered for a short time (`resumable.callbacks.memory`), a no never.

In the headers it gets, what is not ASCII is percent-encoded as UTF-8. ``X-Upload-Name`` is always to be percent-decoded
by the application: in it ``%`` and the space are encoded too, so that decoding gives the very name.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Literal, NoReturn, Protocol
from urllib.parse import quote, urlsplit
from weakref import ref

from attrs import field, frozen
from OpenSSL.SSL import Error as TLSError
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol as WireProtocol
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

from resumable.callbacks.answers import read_answer
from resumable.callbacks.memory import Memory
from resumable.model import ObjectOptions, Unavailable, UploadError

log = Logger()

#: Bytes of an answer that are read; the rest is not wanted.
MAX_ANSWER = 64 * 1024

#: Of a refusal's headers, those that mean the same to the client.
PASSED_ON = (b"WWW-Authenticate", b"Content-Type", b"Retry-After")

#: Characters that a header is sent with as they are.
SAFE = "".join(map(chr, range(0x20, 0x7F)))
SAFE_IN_NAME = SAFE.replace(" ", "").replace("%", "")


@frozen
class Ask:
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
    #: Its acl, storage_class, content_disposition and tags alone are the application's to say.
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

    async def authorize(self, ask: Ask) -> Grant:
        """The application's yes; raises `Refused` for its no, and `Unavailable` where neither can be had."""

    async def close(self) -> None:
        """Let go of connections."""


class OpenDoor:
    """Lets everyone in, as nobody in particular: ``auth: open``."""

    async def authorize(self, ask: Ask) -> Grant:
        """A plain yes."""
        return Grant()

    async def close(self) -> None:
        """Nothing to let go of."""


class _Trouble(Exception):
    """No usable answer: `reason` for the client and the log, `detail` for the log alone."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = f" ({detail})" if detail else ""


class CallbackAuthorizer:
    """Asks the application over HTTP, with a GET to `url`.

    `forward` names the client's headers that are shown to it (settings refuse those that belong to one connection),
    `timeout` (seconds) bounds a call, body included, and `cache` (seconds) is how long a yes counts for the very same
    question. Connections are kept between calls; one that turns out to be closed already is replaced once, which is the
    pool's doing since a GET can be repeated.
    """

    def __init__(
        self, *, url: str, forward: Collection[str], timeout: float, reactor: IReactorTime, cache: float = 0.0
    ) -> None:
        self._url = url
        # The query may hold a token, which has no place in a log.
        self._shown = urlsplit(url)._replace(query="", fragment="").geturl()
        self._forward = tuple(forward)
        self._timeout = timeout
        self._clock = reactor
        self._memory: Memory[tuple[ref[Ask], Grant]] = Memory(cache, reactor)
        self._pool = HTTPConnectionPool(reactor)
        self._pool.maxPersistentPerHost = 32
        self._pool.cachedConnectionTimeout = 30
        self._agent = Agent(reactor, connectTimeout=timeout, pool=self._pool)

    async def authorize(self, ask: Ask) -> Grant:
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

    async def _ask(self, ask: Ask, question: Headers) -> tuple[ref[Ask], Grant]:
        """The grant, and who has asked for it: weakly, for it holds credentials."""
        try:
            return ref(ask), await self._fetch(question)
        except _Trouble as trouble:
            what = {"app": self._shown, "reason": trouble.reason, "detail": trouble.detail}
            log.warn("the auth application at {app} {reason}{detail}", **what)
            raise Unavailable(f"the auth application {trouble.reason}") from None

    async def close(self) -> None:
        """Close the connections that are kept; calls under way end by themselves."""
        await self._pool.closeCachedConnections()

    def _request_headers(self, ask: Ask) -> Headers:
        headers = Headers()
        for name in self._forward:
            for line in ask.headers.getRawHeaders(name.encode(), []):
                headers.addRawHeader(name.encode(), line)
        for title, value, safe in (
            ("X-Original-Method", ask.method, SAFE),
            ("X-Original-URI", ask.uri, SAFE),
            ("X-Forwarded-For", ask.peer or None, SAFE),
            ("X-Upload-Action", ask.action, SAFE),
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

    async def _fetch(self, headers: Headers) -> Grant:
        call = Deferred.fromCoroutine(self._get(headers)).addTimeout(self._timeout, self._clock, _timed_out)
        try:
            status, answered, body = await call
        except (_Trouble, CancelledError):
            raise
        except Exception as error:  # what an Agent fails with has no base class of its own
            # Whoever waits for us was cancelled: that is nobody's fault.
            if any(reason.check(CancelledError) for reason in getattr(error, "reasons", ())):
                raise CancelledError from None
            raise _Trouble("cannot be reached", _describe(error)) from None
        return _judge(status, answered, body)

    async def _get(self, headers: Headers) -> tuple[int, Headers, bytes]:
        # A client of its own for each call: it keeps cookies, and a cookie set for one caller is not the next one's.
        client = HTTPClient(self._agent)
        response = await client.get(self._url, headers=headers, allow_redirects=False, unbuffered=True)
        body = _Body()
        response.deliverBody(body)
        return response.code, response.headers, await body.done


class _Body(WireProtocol):
    """Reads a body; `done` fires with all of it, or with a little more than `MAX_ANSWER` if it is longer."""

    def __init__(self) -> None:
        self._read = bytearray()
        self.done: Deferred[bytes] = Deferred(lambda _: self._hang_up())

    def dataReceived(self, data: bytes) -> None:
        self._read += data
        if len(self._read) > MAX_ANSWER and not self.done.called:
            self.done.callback(bytes(self._read))
            self._hang_up()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.done.called:
            return
        # Data loss is only "potential" where an answer ends with its connection, as it may in HTTP/1.0.
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(bytes(self._read))
        else:
            self.done.errback(reason)

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _timed_out(result: object, timeout: float) -> NoReturn:
    raise _Trouble(f"did not answer within {timeout:g} s")


def _describe(error: Exception) -> str:
    """What went wrong on the wire. Only messages that are known to quote neither side are used."""
    readable = (ConnectError, ConnectionClosed, DNSLookupError, TLSError)
    said = [reason.value for reason in getattr(error, "reasons", ())] or [error]
    return ", ".join(f"{type(one).__name__}{f': {one}' if isinstance(one, readable) else ''}" for one in said)


def _judge(status: int, headers: Headers, body: bytes) -> Grant:
    """What an answer comes to: a grant, `Refused` where it is a no, `_Trouble` where it is neither."""
    # 408 says that the application did not get our request, not that it refuses the client's.
    if 400 <= status < 500 and status != 408:
        kept = {name: headers.getRawHeaders(name, []) for name in PASSED_ON}
        raise Refused(status, Headers({name: lines for name, lines in kept.items() if lines}), body[:MAX_ANSWER])
    if not 200 <= status < 300:
        raise _Trouble(f"answered {status}")
    kind = (headers.getRawHeaders(b"content-type") or [b""])[0].partition(b";")[0].strip().lower()
    if not (kind == b"application/json" or kind.endswith(b"+json")) or not body.strip():
        return Grant()
    try:
        if len(body) > MAX_ANSWER:
            raise ValueError(f"longer than {MAX_ANSWER} bytes")
        # Its errors say what and where, and quote no more than a byte.
        return Grant(**read_answer(json.loads(body.decode("utf-8-sig"))))
    except (ValueError, RecursionError) as error:
        raise _Trouble("gave an answer that cannot be used", str(error)) from None
