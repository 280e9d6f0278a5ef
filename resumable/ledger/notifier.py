"""What nodes that share a ledger tell each other: that an upload goes on here, so let go of it; or that it has ended.

What is stored is right without these messages. They only save time: without them, a client that comes back through
another node waits until the old node notices by itself. A message that cannot be sent is dropped.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable
from typing import Any, Protocol

from sqlalchemy import Connection, func, select, text, update
from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred
from twisted.internet.defer import TimeoutError as TookTooLong
from twisted.logger import Logger

from resumable.ledger.database import Database
from resumable.ledger.listening import LOCKS, Listener, channel
from resumable.ledger.schema import uploads
from resumable.model import State, Unavailable, Upload

#: Seconds for which the answers of other nodes are waited for.
WAIT = 3.0

_LISTENING = text(
    "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = :locks AND objsubid = 2"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Writers(Protocol):
    """What writes uploads on this node, as other nodes see it."""

    async def let_go(self, upload_id: str, first: int, end: int | None) -> bool:
        """End the writers of ``[first, end)`` once what they hold is stored.

        :return: whether other writers of the upload remain here.
        """

    def ended(self, upload_id: str, state: State) -> None:
        """Stop the writers of an upload, which has come to this state: it takes no more bytes."""


class PeerNotifier(Protocol):
    """Sends messages to the other nodes.

    :ivar writers: the nodes that may be writing an upload that has just been created here.
    """

    writers: tuple[int, ...]

    def speak_for(self, writers: Writers) -> None:
        """Pass on to these writers what other nodes ask."""

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        """Have the other nodes let go of the bytes ``[first, end)``, which are going to be written here.

        Waits, but not for long, until they have stored what they hold of these bytes.

        :return: whether another node was told. Then more may be stored now than before.
        :raises Unavailable: the ledger was in trouble.
        """

    async def ended(self, upload: Upload) -> None:
        """Tell the others that the upload has ended."""


class NullNotifier:
    """Sends nothing: there are no other nodes, or no way to reach them."""

    writers: tuple[int, ...] = ()

    def speak_for(self, writers: Writers) -> None:
        """See `PeerNotifier`."""

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        """See `PeerNotifier`."""
        return False

    async def ended(self, upload: Upload) -> None:
        """See `PeerNotifier`."""


class PostgresNotifier:
    """Sends messages through the PostgreSQL that the nodes share. Each node has a number, which it draws at its start.

    The upload's row says which nodes may be writing it. If that is this node alone, no message is sent. Answers are
    awaited only from nodes that listen (`resumable.ledger.listening`).
    """

    _log = Logger()

    def __init__(self, database: Database, reactor: Any, *, wait: float = WAIT) -> None:
        self.node = 1 + secrets.randbelow(2**31 - 1)
        self.writers: tuple[int, ...] = (self.node,)
        self._database = database
        self._reactor = reactor
        self._wait = wait
        self._here: Writers | None = None
        self._listener = Listener(database, self.node, self._hear, reactor)
        self._asked: dict[str, DeferredQueue[int]] = {}

    def speak_for(self, writers: Writers) -> None:
        """See `PeerNotifier`."""
        self._here = writers

    def start(self) -> None:
        """Begin to listen."""
        self._listener.start()

    def stop(self) -> None:
        """Listen no more."""
        self._listener.stop()

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        """See `PeerNotifier`."""
        if upload.writers == self.writers:
            return False
        question = secrets.token_hex(8)
        said = {"let go": upload.id, "first": first, "end": end, "question": question, "node": self.node}

        def work(connection: Connection) -> set[int]:
            # A repeated transaction finds only this node in the row, so the writers that were known before count too.
            former = {*_writers_of(connection, upload.id), *upload.writers}
            others = former & set(connection.execute(_LISTENING, {"locks": LOCKS}).scalars()) - {self.node}
            _set_writers(connection, upload.id, self.writers)
            _tell(connection, others, said)
            return others

        answers = self._asked[question] = DeferredQueue()
        try:
            others = await self._database.write(work)
            if others and self._listener.listening:
                await self._answered(answers, others, upload)
        finally:
            del self._asked[question]
        return bool(others)

    async def _answered(self, answers: DeferredQueue[int], others: set[int], upload: Upload) -> None:
        left = set(others)

        async def all_of_them() -> None:
            while left:
                left.discard(await answers.get())

        try:
            await Deferred.fromCoroutine(all_of_them()).addTimeout(self._wait, self._reactor)
        except TookTooLong:
            self._log.info("upload {id}: {count} nodes have not let go of it yet", id=upload.id, count=len(left))

    async def ended(self, upload: Upload) -> None:
        """See `PeerNotifier`."""
        others = set(upload.writers) - {self.node}
        if not others:
            return
        said = {"ended": upload.id, "state": upload.state.value}
        try:
            await self._database.write(lambda connection: _tell(connection, others, said))
        except Unavailable:
            self._log.info("upload {id}: other nodes could not be told that it has ended", id=upload.id)

    def _hear(self, message: str) -> None:
        """Do what a message from another node asks, or take its answer."""
        said = json.loads(message)
        if "answer" in said:
            asked = self._asked.get(said["answer"])
            if asked is not None:
                asked.put(said["node"])
        elif self._here is not None and "ended" in said:
            self._here.ended(said["ended"], State(said["state"]))
        elif self._here is not None:
            done = ensureDeferred(self._let_go(self._here, said))
            done.addErrback(lambda failure: self._log.failure("what another node asked was not done", failure))

    async def _let_go(self, here: Writers, said: dict[str, Any]) -> None:
        upload_id = said["let go"]
        still = await here.let_go(upload_id, said["first"], said["end"])
        answer = {"answer": said["question"], "node": self.node}

        def work(connection: Connection) -> None:
            if still:
                others = _writers_of(connection, upload_id)
                _set_writers(connection, upload_id, sorted({*others, self.node}))
            _tell(connection, [said["node"]], answer)

        try:
            await self._database.write(work)
        except Unavailable:
            self._log.info("upload {id}: the answer to another node could not be sent", id=upload_id)


def _writers_of(connection: Connection, upload_id: str) -> list[int]:
    query = select(uploads.c.writers).where(uploads.c.id == upload_id).with_for_update()
    return connection.execute(query).scalar() or []


def _set_writers(connection: Connection, upload_id: str, writers: Iterable[int]) -> None:
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(writers=list(writers)))


def _tell(connection: Connection, nodes: Iterable[int], said: dict[str, Any]) -> None:
    """Send a message to the nodes. PostgreSQL delivers it when the transaction is committed, and only then."""
    for node in nodes:
        connection.execute(select(func.pg_notify(channel(node), json.dumps(said))))
