"""A connection for which there is no room: it is told so in the words of its protocol, at little cost, and closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol as Port

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from resumable.clock import cancel_if_active
from resumable.model import Unavailable, UploadError
from resumable.protocols.messages import Request
from resumable.protocols.problems import render_problem
from resumable.protocols.response import Answer, reason_phrase
from resumable.request_info import id_from
from resumable.web.access import REQUEST_ID
from resumable.web.head import END, read_head
from resumable.web.refusals import closing

#: Seconds until one who was turned away may come again.
RETRY_AFTER = 5
#: Seconds between two complaints in the log.
COMPLAIN_SECONDS = 60.0
#: Seconds for which the client may take to say what it wants; and after its answer hold the connection.
PATIENCE = 1.0
#: Bytes of a head that are kept until it is whole. A longer one gets the answer of those who say nothing.
MOST_HEAD = 8 * 1024
#: Connections that are listened to at a time. Beyond these the answer is the same for everybody.
MOST_HEARD = 256


class Busy(Unavailable):
    """There are as many connections as there may be."""

    retry_after = float(RETRY_AFTER)


class AnswersErrors(Port):
    """What knows how the protocol of a request answers an error: a site."""

    def answer_error(self, request: Request, error: UploadError) -> Answer:
        """Return the answer for what went wrong with a request."""


def _written(answer: Answer, request_id: str, *, bodiless: bool = False) -> bytes:
    headers: Headers = closing(answer, request_id)
    fields = [b"%s: %s" % (name, value) for name, values in headers.getAllRawHeaders() for value in values]
    reason = reason_phrase(answer.status) if answer.reason is None else answer.reason
    first = b"HTTP/1.1 %d %s" % (answer.status, reason)
    return b"\r\n".join([first, *fields, b"", b"" if bodiless else answer.body])


def refusal(site: AnswersErrors, received: bytes) -> bytes:
    """Return the answer to whom there is no room for.

    A client of tus that asks how far its upload is hears 423, and not 503, after which it would begin again at byte 0. All
    others have a form for it, and wait.

    :param received: what has come of the request.
    """
    head, error = read_head(received), Busy("There are too many connections.")
    if head is None:
        return _written(render_problem(error), id_from([]))
    request_id = id_from(head.requestHeaders.getRawHeaders(REQUEST_ID, []))
    return _written(site.answer_error(head, error), request_id, bodiless=head.method == b"HEAD")


def brings_more(received: bytes) -> bool:
    """Say whether a request has a body, or may have one: there is more to come then."""
    head = read_head(received)
    if head is None:
        return len(received) > MOST_HEAD
    lengths = head.requestHeaders.getRawHeaders(b"content-length", [])
    return head.requestHeaders.hasHeader(b"transfer-encoding") or any(said != b"0" for said in lengths)


class Crowd:
    """Those who were turned away and have not been answered yet."""

    def __init__(self) -> None:
        self._heard = 0

    def enter(self) -> bool:
        """Say whether there is time to hear one more; if so `leave` has to follow."""
        if self._heard >= MOST_HEARD:
            return False
        self._heard += 1
        return True

    def leave(self) -> None:
        """Let another one be heard."""
        self._heard -= 1


class TurnedAway(Protocol):
    """Answers as soon as the head of the request is there, or after a moment; nothing is asked of anybody.

    Closing before the client's request has been read would reset the connection, which can destroy the answer: so it is
    closed when the whole request has come, or after a moment more.
    """

    def __init__(self, clock: IReactorTime, crowd: Crowd, answer: Callable[[bytes], bytes]) -> None:
        """:param answer: returns what is answered, given what has come."""
        self._clock = clock
        self._crowd = crowd
        self._answer = answer
        self._received = b""
        self._heard = False
        self._answered = False
        self._lingers = False
        self._end: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Listen, if not too many are being listened to (Twisted's)."""
        self._heard = self._crowd.enter()
        if self._heard:
            self._end = self._clock.callLater(PATIENCE, self._say)
        else:
            self._say()

    def dataReceived(self, data: bytes) -> None:
        """Answer what is whole, or too long (Twisted's). What comes after that is not looked at."""
        if self._lingers:
            return
        if not self._answered:
            self._received += data
            if END not in self._received and len(self._received) <= MOST_HEAD:
                return
            self._lingers = brings_more(self._received)
            self._say()
        assert self.transport is not None
        if not self._lingers:
            self.transport.loseConnection()

    def _say(self) -> None:
        assert self.transport is not None
        self._answered = True
        received, self._received = self._received, b""
        self._let_go()
        self._close_later()
        self.transport.write(self._answer(received))

    def _close_later(self) -> None:
        cancel_if_active(self._end)
        self._end = self._clock.callLater(PATIENCE, self._close)

    def _close(self) -> None:
        """Close: what came of a body has been read by now. Over TLS that waits for the client: in the end it is done by force."""
        assert self.transport is not None
        if self._lingers:
            self._lingers = False
            self._close_later()
            self.transport.loseConnection()
        else:
            self.transport.abortConnection()  # type: ignore[attr-defined]

    def _let_go(self) -> None:
        if self._heard:
            self._heard = False
            self._crowd.leave()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind (Twisted's)."""
        self._let_go()
        cancel_if_active(self._end)
