"""Listening on a Twisted endpoint, and saying so: in the log, and to a service manager that wants to know."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger

#: Listens: reactor, endpoint description, and what makes the protocols of connections.
Listen = Callable[[Any, str, IProtocolFactory], Awaitable[IListeningPort]]

_log = Logger()


class CannotListen(Exception):
    """An endpoint cannot be listened on; the message names it and says why."""


async def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen on the endpoint, in this process alone.

    :raises CannotListen: taken, not allowed, or not there.
    """
    port = await open_port(reactor, description, factory)
    announce(description, port)
    return port


async def open_port(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen without a word. Errors as `listen`.

    :param reactor: what the endpoint asks for a port; other than the reactor itself it may give something else.
    """
    try:
        port: IListeningPort = await serverFromString(reactor, description).listen(factory)
        return port
    except LookupError:
        raise CannotListen(f"listen: {description}: the service manager has passed no such socket") from None
    except (CannotListenError, OSError, ValueError) as error:
        raise CannotListen(f"listen: {description}: {error}") from error


def announce(description: str, port: IListeningPort) -> None:
    """Log where the service can be reached."""
    scheme = "https" if description.startswith(("ssl:", "tls:")) else "http"
    address: Any = port.getHost()
    host = f"[{address.host}]" if ":" in getattr(address, "host", "") else getattr(address, "host", "")
    where = f"{scheme}://{host}:{address.port}/" if hasattr(address, "port") else str(address)
    _log.info("resumable listening on {where}", where=where)
    _log.info("upload with: curl -T FILE {where}upload/NAME", where=where)


def tell_manager(state: str) -> None:
    """Tell the service manager, where there is one that listens (systemd's ``Type=notify``).

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
