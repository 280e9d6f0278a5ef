"""A file over one connection: the whole rest of it in one request, and what is left of it after a break."""

from __future__ import annotations

from resumable.client.errors import Again, Gone
from resumable.client.job import Job
from resumable.client.wire import Done, Stored


async def send_file(job: Job) -> Done:
    """Upload a file; return the server's last answer.

    :raises ClientError: it cannot be done.
    """
    if not job.size:
        return await _send_nothing(job)
    ask, first = job.resuming, 0
    while True:
        try:
            outcome = await job.ask() if ask else await job.talk.put(job.source, first, job.size, job.size)
            if isinstance(outcome, Done):
                # Another upload of the same name may have been finished since.
                job.doubtful = job.doubtful or ask
                await job.verify(outcome)
                return outcome
        except Again as again:
            # Of a last answer that was lost, the bytes may all have arrived.
            job.ours = job.ours or first + again.sent == job.size
            ask = job.doubtful = True
            await job.patience.pause(again)
            continue
        except Gone as gone:
            await job.anew(gone)
            ask, first = False, 0
            continue
        first = await _offset(job, outcome, asked=ask)
        ask = False


async def _offset(job: Job, outcome: Stored, *, asked: bool) -> int:
    """Return where to go on."""
    job.doubtful = job.doubtful or outcome.offset > 0
    job.ours = job.ours or not asked
    await job.acknowledged(outcome.offset)
    if not job.patience.progress(outcome.offset) and not asked:
        # Everything was sent, and not more is stored than before.
        await job.patience.pause(Again("the server has taken nothing of what was sent"))
    # All stored and not finished: the last byte once more asks for the end.
    return min(outcome.offset, job.size - 1)


async def _send_nothing(job: Job) -> Done:
    while True:
        try:
            outcome = await job.talk.put_nothing()
            if isinstance(outcome, Done):
                await job.source.check()
                return outcome
            again = Again("the server waits for more bytes than there are")
        except Again as error:
            again = error
        except Gone as gone:
            await job.anew(gone)
            continue
        await job.patience.pause(again)
