"""A worker's own figures, and how it gets the figures of all."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from resumable.clock import cancel_if_active
from resumable.metrics import Metrics
from resumable.model import Unavailable
from resumable.workers.figures import render, snapshot
from resumable.workers.messages import ASKED, COUNTED, Uplink

#: Seconds between the figures that a worker sends unasked. If it is killed, what it has counted since is lost.
EVERY = 5.0
#: Seconds that the parent gets to answer.
PATIENCE = 5.0


class WorkerMetrics:
    """Sends the parent the figures of this worker, and asks it for the figures of all."""

    def __init__(self, metrics: Metrics, uplink: Uplink, clock: Any) -> None:
        self._metrics = metrics
        self._uplink = uplink
        self._clock = clock
        self._waiting: list[Deferred[bytes]] = []
        loop = LoopingCall(self.tell)
        loop.clock = clock
        loop.start(EVERY)

    def tell(self) -> None:
        """Send the parent the figures of this worker."""
        self._uplink.say(COUNTED, json.dumps(snapshot(self._metrics.registry)))

    async def figures(self) -> bytes:
        """Return the figures of all workers, in Prometheus's text format.

        :raises Unavailable: the parent does not answer.
        """
        waiting: Deferred[bytes] = Deferred()
        late = self._clock.callLater(PATIENCE, self._give_up, waiting)
        self._waiting.append(waiting)
        if len(self._waiting) == 1:
            self._uplink.say(ASKED)
        try:
            return await waiting
        finally:
            cancel_if_active(late)

    def _give_up(self, waiting: Deferred[bytes]) -> None:
        self._waiting.remove(waiting)
        waiting.errback(Unavailable("the parent process does not answer"))

    def told(self, figures: bytes) -> None:
        """Answer those who wait with what the parent has sent.

        :param figures: the snapshot of all workers, as JSON.
        """
        waiting, self._waiting = self._waiting, []
        if waiting:
            text = render(json.loads(figures))
            for each in waiting:
                each.callback(text)
