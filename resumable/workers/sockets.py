"""Listening sockets that a parent binds and its children adopt.

Endpoint descriptions are Twisted's, and both sides let Twisted read them. The parent has the endpoint bind a port, and
stops that port from reading. A child gives the endpoint a stand-in for the reactor, which makes ports on the parent's
sockets.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from resumable.listening import SYSTEMD, complain_seldom, make_room, open_port, waiting_room


async def bind(reactor: Any, description: str) -> Any:
    """Return a port that is bound and listens, but accepts nothing: connections wait for another process.

    :raises CannotListen: see `resumable.listening.listen`.
    """
    nobody = Factory()
    nobody.noisy = False
    port: Any = await open_port(reactor, description, nobody)
    # Nothing has been accepted yet: the reactor looks for connections only after this.
    port.stopReading()
    make_room(description, port)
    return port


async def adopt(reactor: Any, description: str, factory: IProtocolFactory, fd: int, family: int) -> IListeningPort:
    """Return a port on the socket `fd`, which `bind` has made from the same description.

    :param family: the address family of the socket.
    :raises CannotListen: see `resumable.listening.listen`.
    """
    adopting = _Adopting(reactor, description, fd, family)
    port = await open_port(adopting, SYSTEMD.sub(r"\1tcp:0", description), factory)
    complain_seldom(port, reactor)
    return port


class _Adopting:
    """Stands in for the reactor: whatever port is asked for, it makes the one on the adopted socket."""

    def __init__(self, reactor: Any, description: str, fd: int, family: int) -> None:
        self._reactor = reactor
        self._description = description
        self._fd = fd
        self._family = family

    def listenTCP(self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = "") -> Any:
        """Return the port on the adopted socket (IReactorTCP)."""
        if self._family == unix.Port.addressFamily:
            return self.listenUNIX("", factory)
        adopted = self._reactor.adoptStreamPort(self._fd, self._family, factory)
        os.close(self._fd)
        return adopted

    def listenSSL(self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = "") -> Any:
        """Return the port on the adopted socket, with TLS on its connections (IReactorSSL)."""
        return self.listenTCP(port, TLSMemoryBIOFactory(contextFactory, False, factory))

    def listenUNIX(
        self, address: str, factory: IProtocolFactory, backlog: int = 50, mode: int = 0o666, wantPID: bool = False
    ) -> Any:
        """Return the port on the adopted socket (IReactorUNIX)."""
        adopted = _SharedUnixPort._fromListeningDescriptor(self._reactor, self._fd, factory)
        # Unlike a TCP port, this one calls listen on the socket again, so it needs the right backlog.
        adopted.backlog = waiting_room(self._description, backlog)
        adopted.startListening()
        os.close(self._fd)
        return adopted


class _SharedUnixPort(unix.Port):
    """An adopted port whose path in the file system belongs to the process that has bound it.

    Twisted's own port would make the path writable for everybody. When the first process that shares it ends, it would
    remove the path and shut the socket down for all.
    """

    _shouldShutdown = False

    def __init__(self, fileName: Any, factory: Any, *args: Any, **options: Any) -> None:
        super().__init__(fileName, factory, *args, **options)
        with suppress(OSError):
            self.mode = stat.S_IMODE(os.stat(self._bindPath).st_mode)

    def connectionLost(self, reason: Failure) -> None:
        """Close the port, and leave the path where it is (called by Twisted)."""
        tcp.Port.connectionLost(self, reason)
