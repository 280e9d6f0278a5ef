"""Messages from other nodes through the database: PostgreSQL's LISTEN, on a connection of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from resumable.backoff import Backoff
from resumable.clock import cancel_if_active
from resumable.ledger.database import Database
from resumable.model import Unavailable

#: The class of the advisory locks that tell which nodes listen. Each node holds one while it listens.
LOCKS = 7_305_221
#: The pauses between tries to connect: always the same.
PAUSES = Backoff(1.0, 1.0)
#: Seconds between checks that the server still takes writes, for only there can the others be heard. An answer that
#: takes longer than this counts as none.
LOOK = 5.0
_ONLY_READS = b"SELECT current_setting('transaction_read_only')"


def channel(node: int) -> str:
    """Return the name of the channel that a node listens on."""
    return f"resumable_{node}"


@implementer(IReadDescriptor)
class NotifyListener:
    """A listening connection, whose socket the reactor watches.

    :param heard: called with each message.
    :param lost: called with the reason why nothing can be heard here any more.
    :param standby: called when the server is read-only: no node can send messages there.
    """

    def __init__(
        self, connection: Any, heard: Callable[[str], None], lost: Callable[[str], None], standby: Callable[[], None]
    ) -> None:
        self.connection = connection
        self._libpq = connection.pgconn
        # A duplicate: when the server goes away libpq closes its own while the reactor still watches it.
        self._socket = os.dup(self._libpq.socket)
        self._heard = heard
        self._lost = lost
        self._standby = standby
        self._asked = False
        # The query is small enough to be sent at once. Should it not be, the reactor must not block.
        self._libpq.nonblocking = 1

    def fileno(self) -> int:
        """Twisted's."""
        return self._socket

    def logPrefix(self) -> str:
        """Twisted's."""
        return "ledger"

    def close(self) -> None:
        """Hear no more."""
        os.close(self._socket)
        self.connection.close()

    def doRead(self) -> None:
        """Read what has come, or notice that the server has gone (called by Twisted)."""
        try:
            self._libpq.consume_input()
            while (notice := self._libpq.notifies()) is not None:
                self._heard(notice.extra.decode())
            only_reads = self._answer()
        except self.connection.OperationalError as error:
            self._lost(str(error))
            return
        if only_reads:
            self._standby()

    def look(self) -> None:
        """Ask the server whether it is read-only, without waiting for the answer."""
        if self._asked:
            self._lost(f"the server has not answered for {LOOK:g} s")
            return
        self._asked = True
        try:
            self._libpq.send_query(_ONLY_READS)
            self._libpq.flush()
        except self.connection.OperationalError as error:
            self._lost(str(error))

    def _answer(self) -> bool:
        """Take what has come of the server's answer. Return whether it says that it is read-only."""
        only_reads = False
        while self._asked and not self._libpq.is_busy():
            result = self._libpq.get_result()
            if result is None:
                self._asked = False
            elif result.ntuples:
                only_reads = result.get_value(0, 0) == b"on"
            else:
                raise self.connection.OperationalError(result.error_message.decode(errors="replace"))
        return only_reads

    def connectionLost(self, reason: Failure) -> None:
        """Note that the reactor could not watch the socket (called by Twisted)."""
        self._lost(reason.getErrorMessage())


class Listener:
    """Listens from `start` to `stop`, on a new connection whenever the old one is lost.

    :param node: the number of this node.
    :param heard: called with each message.
    """

    _log = Logger()

    def __init__(self, database: Database, node: int, heard: Callable[[str], None], reactor: Any) -> None:
        self._database = database
        self._node = node
        self._heard = heard
        self._reactor = reactor
        self._ear: NotifyListener | None = None
        self._connecting: Deferred[None] | None = None
        self._looking: Any = None

    @property
    def listening(self) -> bool:
        """Whether messages from other nodes are heard now."""
        return self._ear is not None

    def start(self) -> None:
        """Begin to listen, as soon as there is a connection."""
        self._connecting = ensureDeferred(self._connect())
        self._connecting.addErrback(lambda failure: self._log.failure("other nodes are not heard", failure))

    def stop(self) -> None:
        """Listen no more."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._close()

    async def _connect(self) -> None:
        tries = 0
        try:
            while True:
                try:
                    connection = await self._database.connect(self._set_up)
                    break
                except Unavailable as error:
                    self._log.debug("cannot listen to other nodes: {error}; trying again", error=str(error))
                tries += 1
                await deferLater(self._reactor, PAUSES.pause(tries))
        except CancelledError:
            return
        self._ear = NotifyListener(connection, self._heard, self._on_lost, self._on_standby)
        self._reactor.addReader(self._ear)
        self._looking = self._reactor.callLater(LOOK, self._look)

    def _look(self) -> None:
        self._looking = self._reactor.callLater(LOOK, self._look)
        if self._ear is not None:
            self._ear.look()

    def _set_up(self, connection: Any) -> None:
        """Begin to listen on a new connection. Runs in a thread.

        Messages that come while a statement runs go to the handler; all others are read from the socket.
        """
        connection.add_notify_handler(lambda notice: self._reactor.callFromThread(self._heard, notice.payload))
        connection.execute(f"LISTEN {channel(self._node)}")
        # The lock comes last, for whoever sees it counts on being heard. It is shared, because this node's former
        # connection may still hold it.
        connection.execute("SELECT pg_advisory_lock_shared(%s, %s)", (LOCKS, self._node))

    def _on_lost(self, why: str) -> None:
        self._log.info("other nodes are not heard for the moment: {why}", why=why.strip())
        self._close()
        self.start()

    def _on_standby(self) -> None:
        """Leave the server: the other nodes are on another one, or soon will be."""
        leaving = ensureDeferred(self._database.leave())
        leaving.addErrback(lambda failure: self._log.failure("connections are not given up", failure))
        self._on_lost("the server only reads")

    def _close(self) -> None:
        looking, self._looking = self._looking, None
        cancel_if_active(looking)
        ear, self._ear = self._ear, None
        if ear is not None:
            self._reactor.removeReader(ear)
            ear.close()
