"""One file on its way: what its connections share, and what is done when the server and the file do not agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crc32c import crc32c
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from resumable.client.conversation import Conversation
from resumable.client.errors import Again, Gone, Refused
from resumable.client.limiter import MOST
from resumable.client.patience import Patience
from resumable.client.sources import READ, FileSource
from resumable.client.state import Claim
from resumable.client.wire import Done, Stored
from resumable.crc32c_text import decode_crc32c

#: How often an upload is begun anew, because what the server has is not this file.
RESTARTS = 2


class Job:
    """A file, the conversation about it, and how patient to be.

    :ivar size: bytes of the file.
    :ivar resuming: whether this upload was begun before, so that the server is to be asked first.
    :ivar doubtful: whether some of what is stored was not sent by this process in one go. Then the object's checksum is
        compared with the file's.
    :ivar ours: whether there is reason to believe that what the server has is this file, where it tells no checksum.
    """

    _log = Logger()

    def __init__(
        self, reactor: Any, talk: Conversation, source: FileSource, patience: Patience, claim: Claim | None
    ) -> None:
        self.talk = talk
        self.source = source
        self.patience = patience
        self.size = source.identity.size
        self.resuming = self.doubtful = self.ours = claim is not None and claim.record is not None
        self._reactor = reactor
        self._claim = claim
        self._restarts = 0
        self._saving = False
        self._unsaved: int | None = None

    async def begun(self) -> None:
        """Write down that the upload is begun, before its first byte leaves."""
        await self._save(0)

    async def acknowledged(self, stored: int) -> None:
        """Note that the server has said how many bytes are stored."""
        self.talk.tracker.acknowledged(stored)
        if self._claim is not None and self._claim.record is not None and self._claim.record.stored != stored:
            await self._save(stored)

    async def _save(self, stored: int) -> None:
        """Write down how far it is; while one writes, only the newest is written next."""
        self._unsaved = stored
        if self._claim is None or self._saving:
            return
        self._saving = True
        try:
            while self._unsaved is not None:
                newest, self._unsaved = self._unsaved, None
                await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), self._claim.save, newest)
        except OSError as error:
            # The upload itself is not worse for it.
            self._log.warn("the state of the upload cannot be stored: {error}", error=error)
        finally:
            self._saving = False

    async def ask(self, *, swarm: bool = False) -> Stored | Done:
        """Return how far the upload is; an upload that is not there has nothing stored. Asked until there is an answer."""
        while True:
            try:
                outcome = await self.talk.ask(swarm=swarm)
            except Gone:
                return Stored()
            except Again as again:
                await self.patience.pause(again)
            else:
                return outcome

    async def anew(self, why: Gone) -> None:
        """Prepare to begin at byte 0, because what is there is not this upload.

        :raises Changed: the file is not what it was when the upload was begun.
        :raises Refused: the server has said so too often.
        """
        await self.source.check()
        self._restarts += 1
        if self._restarts > RESTARTS or (why.status == 400 and not self.resuming):
            raise Refused(why.detail, why.status)
        if why.status == 409 and (why.first == 0 or self._restarts == RESTARTS):
            # What is there takes no other bytes at byte 0 either: an upload of many connections does not.
            while True:
                try:
                    await self.talk.cancel()
                    break
                except Again as again:
                    await self.patience.pause(again)
        await self.acknowledged(0)
        self.resuming = self.doubtful = self.ours = False

    async def verify(self, done: Done) -> None:
        """Make sure that the object is the file.

        :raises Changed: the file has changed meanwhile.
        :raises Gone: the object is another one.
        """
        await self.source.check()
        if self.doubtful and not await self._same(done.result or {}):
            raise Gone("the object on the server is not this file", 409, None)

    async def _same(self, result: Mapping[str, Any]) -> bool:
        size, checksum = result.get("size"), result.get("checksum")
        if size is not None and size != self.size:
            return False
        expected = decode_crc32c(checksum.get("crc32c")) if isinstance(checksum, dict) else None
        if expected is None:
            return self.ours
        found = 0
        for first in range(0, self.size, READ):
            for block in await self.source.read(first, min(READ, self.size - first), MOST):
                found = crc32c(block, found)
        return found == expected
