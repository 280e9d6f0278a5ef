"""What nodes that share a ledger tell each other: let go of an upload, it goes on here; or it has ended.

None of it is needed for what is stored to be right: it saves those who come back through another node the wait until the
old one has noticed by itself. What cannot be told is left.
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
    """Those who write uploads on this node: what is asked of them on behalf of others."""

    async def let_go(self, upload_id: str, first: int, end: int | None) -> bool:
        """End whoever writes ``[first, end)``, once what they hold is stored; whether others here still write the upload."""

    def ended(self, upload_id: str, state: State) -> None:
        """The upload has come to this state: nobody is to write it any more."""


class PeerNotifier(Protocol):
    """What one node has to say to the others.

    :ivar writers: who may be writing an upload that has just been created here.
    """

    writers: tuple[int, ...]

    def speak_for(self, writers: Writers) -> None:
        """Tell these what others ask."""

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        """Bytes ``[first, end)`` are going to be written here: have the other nodes let go of them.

        Waits until they have stored what they hold of them, but not for long.

        :return: whether there was somebody to tell, so that more may be stored now.
        :raises Unavailable: the ledger was in trouble.
        """

    async def ended(self, upload: Upload) -> None:
        """Tell the others that the upload has ended."""


class NullNotifier:
    """There are no other nodes, or none that could be told."""

    writers: tuple[int, ...] = ()

    def speak_for(self, writers: Writers) -> None:
        """See `PeerNotifier`."""

    async def take_over(self, upload: Upload, first: int, end: int | None) -> bool:
        """See `PeerNotifier`."""
        return False

    async def ended(self, upload: Upload) -> None:
        """See `PeerNotifier`."""


class PostgresNotifier:
    """Nodes on one PostgreSQL. Each has a number, drawn at its start, and an ear (`resumable.ledger.listening`).

    The upload's row says which nodes may be writing it. Only where that is not this one alone is anybody asked, and only
    those who listen are waited for.
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
            # Who repeats this finds itself alone in the row.
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
            self._log.info("upload {id}: other nodes do not know yet that it has ended", id=upload.id)

    def _hear(self, message: str) -> None:
        """Called with what others say."""
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
            self._log.info("upload {id}: another node waits in vain for an answer", id=upload_id)


def _writers_of(connection: Connection, upload_id: str) -> list[int]:
    query = select(uploads.c.writers).where(uploads.c.id == upload_id).with_for_update()
    return connection.execute(query).scalar() or []


def _set_writers(connection: Connection, upload_id: str, writers: Iterable[int]) -> None:
    connection.execute(update(uploads).where(uploads.c.id == upload_id).values(writers=list(writers)))


def _tell(connection: Connection, nodes: Iterable[int], said: dict[str, Any]) -> None:
    """Say it when, and if, the transaction is committed."""
    for node in nodes:
        connection.execute(select(func.pg_notify(channel(node), json.dumps(said))))
