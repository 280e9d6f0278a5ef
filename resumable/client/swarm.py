"""A file over many connections at once: ranges between multiples of the server's chunk size, in any order."""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, FirstError

from resumable.client.errors import Again, Gone
from resumable.client.job import Job
from resumable.client.ranges import Range, cut, merge, missing, size_of
from resumable.client.single import send_file
from resumable.client.wire import Done, Stored

#: Bytes of the first range, which the server's chunk size is learned by. A smaller file goes over one connection.
FIRST = 6 * 1024 * 1024
#: The most bytes of a range, but for larger chunks: what breaks off in it is asked for, so this only spreads the work.
LARGEST = 64 * 1024 * 1024


async def send_in_ranges(job: Job, connections: int) -> Done:
    """Upload a file; return the server's last answer.

    :raises ClientError: it cannot be done.
    """
    if job.size <= 2 * FIRST:
        return await send_file(job)
    while True:
        try:
            outcome = await _begin(job)
            if isinstance(outcome, Stored):
                if not outcome.chunk_size:
                    # Not a server that knows of swarms.
                    job.resuming = True
                    return await send_file(job)
                outcome = await _Swarm(job, outcome).run(connections)
            await job.verify(outcome)
            return outcome
        except Gone as gone:
            await job.anew(gone)


async def _begin(job: Job) -> Stored | Done:
    """Ask how far the upload is; one that is new is begun by its first range, as over one connection."""
    asked = job.resuming
    while True:
        try:
            if asked:
                job.doubtful = True
                outcome = await job.ask(swarm=True)
                if isinstance(outcome, Done) or outcome.ranges:
                    return outcome
            outcome = await job.talk.put(job.source, 0, FIRST, job.size)
            job.ours = True
            return outcome
        except Again as again:
            asked = True
            await job.patience.pause(again)


class _Swarm:
    """The ranges that are missing, and the connections that bring them."""

    def __init__(self, job: Job, begun: Stored) -> None:
        self._job = job
        self._stored: list[Range] = []
        self._done: Done | None = None
        self._chunk = begun.chunk_size
        self._begun = begun
        self._left: deque[Range] = deque()

    async def run(self, connections: int) -> Done:
        """Bring everything.

        :raises Gone: the upload is not there any more, or is not this one.
        """
        await self._learn(self._begun)
        while self._done is None:
            gaps = missing(self._stored, 0, self._job.size)
            share = min(LARGEST, size_of(gaps) // (4 * connections))
            self._left = deque(cut(gaps, max(1, -(-share // self._chunk)) * self._chunk))
            if not self._left:
                # All is acknowledged: the answer that said that it is finished was lost, or is not there yet.
                await self._end()
                continue
            await _all(self._work() for _ in range(min(connections, len(self._left))))
        return self._done

    async def _end(self) -> None:
        outcome = await self._job.ask(swarm=True)
        if isinstance(outcome, Stored):
            if missing(outcome.ranges, 0, self._job.size) and not outcome.cut:
                raise Gone("the upload is no longer there", 404, None)
            await self._job.patience.pause(Again("the server has every byte, and no object yet"))
            return
        self._done = outcome

    async def _learn(self, outcome: Stored | Done) -> None:
        if isinstance(outcome, Done):
            self._done = outcome
            return
        self._stored = merge([*self._stored, *outcome.ranges])
        stored = size_of(self._stored)
        self._job.patience.progress(stored)
        await self._job.acknowledged(stored)

    async def _work(self) -> None:
        while self._left and self._done is None:
            first, end = self._left.popleft()
            await self._bring(first, end)

    async def _bring(self, first: int, end: int) -> None:
        """Bring what is missing of a range, until nothing is."""
        job = self._job
        # What others are answered tells of this range too: after a crash, of bytes that the server was still storing.
        while self._done is None and (gaps := missing(self._stored, first, end)):
            low, high = gaps[0]
            try:
                outcome = await job.talk.put(job.source, low, high, job.size, swarm=True)
            except Again as again:
                job.doubtful = True
                await job.patience.pause(again)
                outcome = await job.ask(swarm=True)
                if isinstance(outcome, Stored) and not outcome.ranges:
                    raise Gone("the upload is no longer there", 404, low) from None
                await self._learn(outcome)
                continue
            if isinstance(outcome, Stored) and outcome.cut:
                # Its whole body was taken, and the answer has no room to say so.
                outcome = Stored([*outcome.ranges, (low, high)], outcome.chunk_size)
            await self._learn(outcome)
            if self._done is None and missing(self._stored, low, high) == [(low, high)]:
                await job.patience.pause(Again("the server has taken nothing of what was sent"))


async def _all(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all of them; the first failure ends the others, and is raised when they have ended."""
    doing = [Deferred.fromCoroutine(work) for work in works]
    try:
        await DeferredList(doing, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as error:
        error.subFailure.raiseException()
    finally:
        for one in doing:
            one.cancel()
            one.addErrback(lambda failure: failure.trap(CancelledError) and None)
