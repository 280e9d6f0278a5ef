"""What a worker has counted, and what it knows of all others'."""

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

#: Seconds between what a worker says unasked: so much of what it has counted is lost if it is killed.
EVERY = 5.0
#: Seconds that the parent gets to answer.
PATIENCE = 5.0


class WorkerMetrics:
    """Says what this worker has counted, and asks the parent what all have."""

    def __init__(self, metrics: Metrics, uplink: Uplink, clock: Any) -> None:
        self._metrics = metrics
        self._uplink = uplink
        self._clock = clock
        self._waiting: list[Deferred[bytes]] = []
        loop = LoopingCall(self.tell)
        loop.clock = clock
        loop.start(EVERY)

    def tell(self) -> None:
        """Say what has been counted."""
        self._uplink.say(COUNTED, json.dumps(snapshot(self._metrics.registry)))

    async def figures(self) -> bytes:
        """What all have counted, in Prometheus's text format.

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
        """The parent's answer."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            text = render(json.loads(figures))
            for each in waiting:
                each.callback(text)
