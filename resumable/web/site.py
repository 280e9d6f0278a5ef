"""The site of the streaming connections: it counts them, bounds them, and drains them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.web import http, server

from resumable.metrics import Metrics
from resumable.model import UploadError
from resumable.protocols.messages import Request
from resumable.protocols.origin import Proxies
from resumable.protocols.response import Answer
from resumable.web.access import log_refusal
from resumable.web.chunked import Turns
from resumable.web.connection import StreamingChannel
from resumable.web.head_timer import HEAD_SECONDS
from resumable.web.low_water import LowWaters
from resumable.web.overload import COMPLAIN_SECONDS, Crowd, TurnedAway, refusal
from resumable.web.pipelining import REQUESTS_PER_TURN
from resumable.web.request import StreamingRequest
from resumable.web.tls import ClientTls

log = Logger()


class StreamingResource(Protocol):
    """The one resource of a site. It is asked at the headers of a request, not at its end, and for every path."""

    async def serve(self, request: Request) -> Answer:
        """Answer ``request``; its body arrives only if, and when, this awaits ``request.pour_into(consumer)``."""

    def answer_error(self, request: Request, error: UploadError) -> Answer:
        """Return the answer for what went wrong with a request outside `serve`."""


class StreamingSite(server.Site):
    """A resource on streaming connections; knows its connections, so that it can be drained."""

    #: Twisted would log when it starts and stops.
    noisy = False
    protocol = StreamingChannel  # type: ignore[assignment]  # and with it no HTTP/2
    #: What is between a connection and its socket where an endpoint speaks TLS; see `resumable.listening.open_port`.
    tls_protocol = ClientTls

    def __init__(
        self,
        resource: StreamingResource,
        *,
        idle_timeout: float,
        reactor: IReactorTime,
        connections: int | None = None,
        proxies: Proxies | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Serve ``resource``.

        :param idle_timeout: the longest silence (seconds) of a client that is to speak.
        :param connections: how many there may be at a time; None: any number.
        :param proxies: who is believed about where requests come from; None: nobody.
        """
        self.metrics = metrics or Metrics()
        self._served = resource
        super().__init__(resource, requestFactory=StreamingRequest, timeout=idle_timeout, reactor=reactor)
        self.head_timeout = min(idle_timeout, HEAD_SECONDS)
        self.proxies = proxies or Proxies()
        self.channels: set[StreamingChannel] = set()
        self.turns = Turns(self.reactor)
        #: For requests that were read together with a former one.
        self.request_turns = Turns(self.reactor, REQUESTS_PER_TURN)
        self.low_waters = LowWaters(self.reactor, idle_timeout)
        self._most = connections
        self._crowd = Crowd()
        self._complained: float | None = None
        #: While True every answer closes its connection.
        self.draining = False

    def acceptableProtocols(self) -> Sequence[bytes]:
        """Return what TLS may negotiate (ALPN)."""
        return [b"http/1.1"]

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Return a channel for a new connection; beyond the limit one that only says so."""
        if self._most is None or len(self.channels) < self._most:
            return super().buildProtocol(addr)
        now = self.reactor.seconds()
        if self._complained is None or now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            log.warn("limits.connections ({most}) is reached: new connections get a 503", most=self._most)
        return TurnedAway(self.reactor, self._crowd, partial(refusal, self))

    async def serve(self, request: Request) -> Answer:
        """Have the resource answer."""
        return await self._served.serve(request)

    def answer_error(self, request: Request, error: UploadError) -> Answer:
        """Have the resource say how an error is answered."""
        return self._served.answer_error(request, error)

    def startFactory(self) -> None:
        """Open no log file and start no clock to stamp its lines with, unlike our base."""

    def stopFactory(self) -> None:
        """Do nothing: nothing was started."""

    def log(self, request: http.Request) -> None:
        """Write the access line: no header values and no query, as they may hold secrets. Refusals are told at the level info."""
        self.metrics.answered(request.method.decode("latin-1"), request.code)
        assert isinstance(request, StreamingRequest)
        client = request.origin.client
        log.debug(
            "{method} {path} {status} {sent} bytes to {client}",
            method=request.method.decode("ascii", "backslashreplace"),
            path=request.path.decode("ascii", "backslashreplace"),
            status=request.code,
            sent=request.sentLength,
            client=client or "-",
        )
        if request.code >= 400:
            log_refusal(request.method, request.path, request.code, request.info, client)

    def drain(self) -> None:
        """Close idle connections, and take no body any further: its client is told to come again (503).

        Returns at once; ``channels`` empties as what was begun is answered. Stop listening before.
        """
        self.draining = True
        for channel in list(self.channels):
            channel.drain()
