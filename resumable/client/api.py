"""The Python API: one coroutine."""

from __future__ import annotations

import mimetypes
import os
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from attrs import frozen
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from resumable.client.conversation import Conversation
from resumable.client.errors import Failed
from resumable.client.http import Http
from resumable.client.job import Job
from resumable.client.limiter import Limiter
from resumable.client.patience import Patience
from resumable.client.single import send_file
from resumable.client.sources import FileSource, StreamSource
from resumable.client.state import Claim, default_folder
from resumable.client.stream import send_stream
from resumable.client.swarm import send_in_ranges
from resumable.client.tracker import Progress, Tracker
from resumable.client.wire import Done

#: What the protocol says itself.
_OWN = frozenset(
    {
        "connection",
        "content-length",
        "content-range",
        "expect",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "upload-swarm",
    }
)
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MOST_CONNECTIONS = 64

_log = Logger()


@frozen
class Result:
    """An upload that is complete.

    :ivar url: where it went.
    :ivar status: the status of the server's last answer.
    :ivar result: what that answer says of the object (its JSON); None if it is no JSON object.
    """

    url: str
    status: int
    result: Mapping[str, Any] | None


async def upload(
    source: str | os.PathLike[str] | int,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    connections: int = 1,
    limit_rate: float | Limiter | None = None,
    retry_for: float = 600.0,
    state: str | os.PathLike[str] | None = "",
    progress: Callable[[Progress], object] | None = None,
    http: Http | None = None,
    reactor: Any = None,
) -> Result:
    """Upload a file, or what can be read from a file descriptor, and return when the object is made.

    Cancelled, it leaves what was acknowledged on the server; called again with the same file, it goes on there.

    :param source: the path of a regular file; or an open file descriptor, which is read once to its end and not closed.
    :param url: the whole URL of the upload.
    :param headers: go with every request, such as ``Authorization``. ``Content-Type`` is guessed from a file's name
        unless it is given.
    :param connections: over how many connections a file goes. A file descriptor goes over one.
    :param limit_rate: bytes a second, or a `Limiter` that several uploads share.
    :param retry_for: seconds without progress after which it gives up.
    :param state: the folder that remembers uploads which are not complete; None to remember nothing. By default
        ``$XDG_STATE_HOME/resumable``.
    :param progress: called often with how far the upload is.
    :param http: makes the requests; by default one that is closed at the end.
    :param reactor: Twisted's by default.
    :raises Refused: the server has said no.
    :raises Failed: the file cannot be read, has changed, is being uploaded by another process; or an argument is wrong.
    :raises GaveUp: there was no progress for `retry_for` seconds.
    """
    if reactor is None:
        from twisted.internet import reactor
    if not 1 <= connections <= MOST_CONNECTIONS:
        raise Failed(f"connections must be from 1 to {MOST_CONNECTIONS}")
    url, sent = prepare(url, headers or {})
    limiter = limit_rate if limit_rate is None or isinstance(limit_rate, Limiter) else Limiter(reactor, limit_rate)
    ours = http or Http(reactor, connections)
    order = _Order(reactor, ours, url, sent, limiter, retry_for, progress)
    try:
        if isinstance(source, int):
            done = await _stream(order, source)
        else:
            done = await _file(order, os.fspath(source), state, connections)
    finally:
        if http is None:
            await ours.close()
    return Result(url, done.status, done.result)


@frozen
class _Order:
    """What is wanted of an upload, whatever its source is; see `upload`."""

    reactor: Any
    http: Http
    url: str
    headers: Headers
    limiter: Limiter | None
    retry_for: float
    progress: Callable[[Progress], object] | None

    def begin(self, size: int | None) -> tuple[Tracker, Conversation, Patience]:
        """Return what tracks it, what talks with the server, and how long it is tried.

        :param size: bytes of the source; None while unknown.
        """
        tracker = Tracker(size, self.progress)
        talk = Conversation(self.http, self.reactor, self.url, self.headers, tracker, self.limiter)
        return tracker, talk, Patience(self.reactor, self.retry_for, tracker)


async def _stream(order: _Order, fd: int) -> Done:
    _, talk, patience = order.begin(None)
    source = StreamSource(order.reactor, fd)
    try:
        return await send_stream(talk, source, patience)
    finally:
        source.close()


async def _file(order: _Order, path: str, state: str | os.PathLike[str] | None, connections: int) -> Done:
    reactor, headers = order.reactor, order.headers
    source = FileSource(reactor, path)
    claim: Claim | None = None
    try:
        await source.open()
        if state is not None:
            try:
                folder = Path(state) if os.fspath(state) else default_folder()
                args = (folder, order.url, source.path, source.identity)
                claim = await deferToThreadPool(reactor, reactor.getThreadPool(), Claim, *args)
            except OSError as error:
                _log.warn("the upload cannot go on after a crash: {error}", error=error)
        if not headers.hasHeader("content-type"):
            guessed, encoding = mimetypes.guess_type(os.path.basename(path))
            if guessed is not None and encoding is None:
                headers.setRawHeaders("Content-Type", [guessed])
        tracker, talk, patience = order.begin(source.identity.size)
        job = Job(reactor, talk, source, patience, claim)
        if not job.resuming:
            await job.begun()
        done = await (send_file(job) if connections == 1 else send_in_ranges(job, connections))
        if claim is not None:
            claim.forget()
        tracker.acknowledged(source.identity.size)
        return done
    finally:
        source.close()
        if claim is not None:
            claim.release()


def prepare(url: str, headers: Mapping[str, str]) -> tuple[str, Headers]:
    """Return the URL and the headers as they are sent: what is before an ``@`` in the URL becomes ``Authorization``.

    :raises Failed: one of them cannot be sent.
    """
    sent = Headers()
    for name, value in headers.items():
        if _NAME.fullmatch(name) is None or not value.isprintable():
            raise Failed("a header has to be of the form 'Name: value'")
        if name.lower() in _OWN:
            raise Failed(f"the header {name} is said by the protocol itself")
        sent.setRawHeaders(name, [value])
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise Failed("the URL has to be of the form http://HOST/upload/NAME, percent-encoded")
    if "#" in url:
        raise Failed("the URL holds a #, which has to be written as %23")
    user, at, host = parts.netloc.rpartition("@")
    if at and not sent.hasHeader("authorization"):
        sent.setRawHeaders("Authorization", [b"Basic " + b64encode(unquote_to_bytes(user))])
    if not sent.hasHeader("user-agent"):
        sent.setRawHeaders("User-Agent", ["resumable"])
    return parts._replace(netloc=host, path=parts.path or "/").geturl(), sent
