"""A stream of unknown length, chunk by chunk: what is not acknowledged is kept, so that it can be sent again."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from resumable.client.conversation import Conversation
from resumable.client.errors import Again, Failed, Gone, Refused
from resumable.client.patience import Patience
from resumable.client.sources import Held, StreamSource
from resumable.client.wire import Done, Stored

#: Bytes of the first request; then it is the least multiple of the server's chunk size that is no less than this. Two
#: such blocks are in memory: the one that is sent, and the one that is read meanwhile.
BLOCK = 6 * 1024 * 1024
#: The most bytes of a request, whatever the server's chunk size is.
LARGEST = 64 * 1024 * 1024


async def send_stream(talk: Conversation, source: StreamSource, patience: Patience) -> Done:
    """Upload everything that comes; return the server's last answer.

    :raises ClientError: it cannot be done.
    """
    return await _Stream(talk, source, patience).run()


class _Stream:
    def __init__(self, talk: Conversation, source: StreamSource, patience: Patience) -> None:
        self._talk = talk
        self._source = source
        self._patience = patience
        self._chunk = 0

    async def run(self) -> Done:
        await self._clear()
        first, size = 0, BLOCK
        blocks = await self._source.take(size)
        while True:
            held = Held(first, blocks)
            if held.end - held.first < size:
                return await self._end(held)
            following = self._following()
            ahead = Deferred.fromCoroutine(self._source.take(following))
            try:
                outcome = await self._bring(held, None)
            except BaseException:
                ahead.addErrback(lambda _: None)
                raise
            if isinstance(outcome, Done):
                raise Failed("the server takes the upload for complete, and there is more to come")
            first, size, blocks = held.end, following, await ahead

    def _following(self) -> int:
        """Return how many bytes the next request has."""
        if not self._chunk or self._chunk > LARGEST:
            return BLOCK
        return -(-BLOCK // self._chunk) * self._chunk

    async def _clear(self) -> None:
        """Cancel an unfinished upload of the same name: nobody knows whether its bytes are these."""
        while True:
            try:
                outcome = await self._talk.ask()
                if isinstance(outcome, Stored):
                    await self._talk.cancel()
                return
            except Gone:
                return
            except Again as again:
                await self._patience.pause(again)

    async def _end(self, held: Held) -> Done:
        """Bring the last bytes, and say how many there are in all."""
        total = held.end
        while True:
            try:
                if total == 0:
                    outcome = await self._talk.put_nothing()
                elif held.end > held.first:
                    outcome = await self._bring(held, total)
                else:
                    outcome = await self._talk.ask(total)
            except Again as again:
                await self._patience.pause(again)
                continue
            except Gone as gone:
                raise Refused(gone.detail, gone.status) from None
            if isinstance(outcome, Done):
                return outcome
            if not self._patience.progress(outcome.offset):
                await self._patience.pause(Again("the server waits for more bytes than there are"))

    async def _bring(self, held: Held, total: int | None) -> Stored | Done:
        """Bring what is held, until all of it is acknowledged."""
        ask, first = False, held.first
        while True:
            try:
                if ask:
                    outcome = await self._talk.ask(total)
                else:
                    outcome = await self._talk.put(held, first, held.end, total)
            except Again as again:
                ask = True
                await self._patience.pause(again)
                continue
            except Gone as gone:
                if not (ask and held.first == 0):
                    raise Refused(gone.detail, gone.status) from None
                outcome = Stored()
            if isinstance(outcome, Done):
                return outcome
            offset = outcome.offset
            if offset < held.first:
                raise Refused("the server has lost bytes that it had acknowledged, and a stream is read only once")
            if offset > held.end:
                raise Refused("the server has more bytes than were sent: somebody else uploads to this URL")
            self._chunk = outcome.chunk_size or self._chunk
            self._talk.tracker.acknowledged(offset)
            moved = self._patience.progress(offset)
            if offset == held.end:
                return outcome
            if not moved and not ask:
                await self._patience.pause(Again("the server has taken nothing of what was sent"))
            ask, first = False, offset
