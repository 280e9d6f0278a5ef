"""Listening on a Twisted endpoint, and telling that: in the log, and to a service manager."""

from __future__ import annotations

import errno
import os
import re
import socket
from contextlib import suppress
from typing import Any, Protocol, cast

from twisted.internet import tcp
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from twisted.protocols.tls import TLSMemoryBIOFactory


class Listen(Protocol):
    """Listens."""

    async def __call__(
        self, reactor: Any, description: str, factory: IProtocolFactory, *, operations: bool = False
    ) -> IListeningPort:
        """Listen on the endpoint with this description.

        :param factory: of the connections' protocols.
        :param operations: whether it is the endpoint for ``/metrics``, ``/readyz`` and ``/healthz`` alone.
        """


#: Connections that may wait to be accepted, where the description does not say. With Twisted's 50 many of a burst would
#: try again after one second, and again after three.
BACKLOG = 1024

#: Connections accepted in one iteration of the reactor. Each brings a request at once, and clients that are being
#: served wait for the iteration to end. New connections wait better at the socket, where waiting costs nothing.
ACCEPTED = 4

#: Seconds between two warnings that no connection can be accepted.
COMPLAIN_SECONDS = 60.0
#: Seconds until accepting is tried again where there was not even a descriptor for closing new connections.
ACCEPT_PAUSE = 0.5

#: The end of a description that names a socket of the service manager.
SYSTEMD = re.compile(r"(^|:)systemd:.*")

_log = Logger()


class CannotListen(Exception):
    """An endpoint cannot be listened on; the message names it and says why."""


async def listen(
    reactor: Any, description: str, factory: IProtocolFactory, *, operations: bool = False
) -> IListeningPort:
    """Listen on the endpoint, in this process alone.

    :param operations: as of `Listen`.
    :raises CannotListen: the address is taken, not allowed, or not there.
    """
    port = await open_port(reactor, description, factory)
    if isinstance(port, tcp.Port):  # other kinds of endpoints have no socket of ours
        make_room(description, port)
        accept_at_most(ACCEPTED, port)
        complain_seldom(port, reactor)
    (announce_operations if operations else announce)(description, port)
    return port


def waiting_room(description: str, asked: int) -> int:
    """Return how many connections may wait: `asked`, if the description says so, else `BACKLOG`."""
    return asked if "backlog=" in description else BACKLOG


def make_room(description: str, port: Any) -> None:
    """Let as many connections wait as `waiting_room` says. For a service manager's socket the manager decides."""
    if not SYSTEMD.search(description):
        port.socket.listen(waiting_room(description, port.backlog))


async def open_port(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen without a log line. Errors as in `listen`.

    :param reactor: what the endpoint asks for a port. A stand-in for the reactor may return another port.
    """
    try:
        port: IListeningPort = await serverFromString(reactor, description).listen(factory)
    except LookupError:
        raise CannotListen(f"listen: {description}: the service manager has passed no such socket") from None
    except (CannotListenError, OSError, ValueError) as error:
        raise CannotListen(f"listen: {description}: {error}{_advice(error)}") from error
    use_own_tls(port, factory)
    return port


def use_own_tls(port: Any, factory: Any) -> None:
    """Have the connections of a TLS port speak it as their factory wants, if it says so (``tls_protocol``)."""
    wrapping = getattr(port, "factory", None)
    protocol = getattr(factory, "tls_protocol", None)
    if isinstance(wrapping, TLSMemoryBIOFactory) and protocol is not None:
        wrapping.protocol = protocol


def _advice(error: Exception) -> str:
    """Return what to do about a port that this user may not have, or another program has; empty for other errors."""
    cause = getattr(error, "socketError", error)
    if getattr(cause, "errno", None) == errno.EADDRINUSE:
        return (
            " Another program listens there: end it, or choose another port (--listen tcp:8081, or listen in the file)"
        )
    if isinstance(cause, PermissionError):
        return "; for a port below 1024 use a socket of systemd's or CAP_NET_BIND_SERVICE, not twistd's --uid (docs/deploying.md)"
    return ""


def accept_at_most(most: int, port: Any) -> None:
    """Make `port` (Twisted's, on a socket) accept at most `most` connections in each iteration of the reactor.

    By itself it accepts more and more.
    """
    accept = port.doRead

    def accept_some() -> None:
        port.numberAccepts = most
        accept()

    port.doRead = accept_some


class AcceptErrors:
    """Replaces the log of Twisted's port, which writes several lines for each connection that it cannot accept.

    Twisted keeps a descriptor in reserve. When no other is left, it accepts new connections with it and closes them.
    Without the reserve they stay at the socket, and the reactor would find it readable without end.
    """

    def __init__(self, port: Any, clock: Any) -> None:
        self._port = port
        self._clock = clock
        self._complained: float | None = None

    def __call__(self, event: LogEvent) -> None:
        """Handle a log event of the port (called by Twisted)."""
        said = str(event.get("log_format", ""))
        reason = event.get("acceptError")
        if reason is None and "EMFILE" not in said:
            globalLogPublisher(event)
        elif reason is None:
            self._complain("EMFILE")
        elif reason != errno.errorcode[errno.ECONNABORTED]:  # that one client has gone
            self._complain(str(reason))
            self._port.stopReading()
            self._clock.callLater(ACCEPT_PAUSE, self._go_on)

    def _complain(self, reason: str) -> None:
        now = self._clock.seconds()
        if self._complained is None or now - self._complained >= COMPLAIN_SECONDS:
            self._complained = now
            _log.warn(
                "new connections cannot be accepted ({reason}): {what}",
                reason=reason,
                what="no file descriptor is left (ulimit -n)" if reason == "EMFILE" else "the system has no room",
            )

    def _go_on(self) -> None:
        if self._port.connected and not self._port.disconnecting:
            with suppress(OSError):
                os.close(os.open(os.devnull, os.O_RDONLY))
                tcp._reservedFD.reserve()
            self._port.startReading()


def complain_seldom(port: Any, clock: Any) -> None:
    """Make `port` (Twisted's, on a socket) warn once a minute while it cannot accept, and go on when it can."""
    port._logger = Logger(namespace=port._logger.namespace, observer=cast(ILogObserver, AcceptErrors(port, clock)))


def announce(description: str, port: IListeningPort) -> None:
    """Log where the service can be reached."""
    where, everywhere = _where(description, port)
    _log.info("resumable listening on {where}", where=where)
    _log.info("upload with: curl -T FILE {where}upload/NAME", where=where)
    if everywhere:
        _log.info("it listens on every address of this machine")


def announce_operations(description: str, port: IListeningPort) -> None:
    """Log where ``/metrics``, ``/readyz`` and ``/healthz`` can be reached, if nothing else is there."""
    where, _ = _where(description, port)
    _log.info("operations at {where}metrics {where}readyz {where}healthz", where=where)


def _where(description: str, port: IListeningPort) -> tuple[str, bool]:
    """Return a URL that can be opened, and whether it is one of many, since the port listens on every address."""
    scheme = "https" if description.startswith(("ssl:", "tls:")) else "http"
    address: Any = port.getHost()
    host = f"[{address.host}]" if ":" in getattr(address, "host", "") else getattr(address, "host", "")
    everywhere = host in ("0.0.0.0", "[::]")
    if everywhere:
        host = reachable_host(host)
    return f"{scheme}://{host}:{address.port}/" if hasattr(address, "port") else str(address), everywhere


def reachable_host(wildcard: str) -> str:
    """Return an address of this machine as it stands in a URL: the one that it speaks to others from.

    :param wildcard: ``0.0.0.0`` or ``[::]``, which is no address that anybody could open.
    """
    # Nothing is sent: connecting a UDP socket only chooses a way. Both addresses are for documentation (RFC 5737, RFC 3849).
    for family, far, local in (
        (socket.AF_INET, "192.0.2.1", "127.0.0.1"),
        (socket.AF_INET6, "2001:db8::1", "::1"),
    ):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as way:
            way.connect((far, 9))
            address = str(way.getsockname()[0])
            return f"[{address}]" if ":" in address else address
        if wildcard == "0.0.0.0":
            return local
    return "[::1]"


def tell_manager(state: str) -> None:
    """Tell the service manager a state, if there is a manager that listens (systemd's ``Type=notify``).

    :param state: ``READY=1`` or ``STOPPING=1``, see sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        try:
            manager.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            _log.warn("the service manager cannot be told {state}: {error}", state=state, error=str(error))
