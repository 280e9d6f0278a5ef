"""The end of the connections when the service stops: what runs may end, as long as it can."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

from twisted.internet.task import deferLater
from twisted.logger import Logger

log = Logger()

#: Seconds between looks at what is left.
STEP = 0.05
#: Seconds that are given in any case: what needs no part that is out may end in them.
LEAST = 1.0


class Connection(Protocol):
    """A client's connection."""

    @property
    def requests(self) -> Any:
        """The requests that are under way on it."""

    def forceAbortClient(self) -> None:
        """End it at once."""


class Site(Protocol):
    """What has connections."""

    @property
    def channels(self) -> Collection[Any]:
        """The connections that are there."""

    def drain(self) -> None:
        """Take no body any further, and close what is idle; see `resumable.web.site.StreamingSite.drain`."""


async def drain(site: Site, clock: Any, seconds: float, hopeless: Callable[[], str]) -> None:
    """End what runs: what has arrived is stored, and answered.

    It is not waited for longer than `seconds`, nor while nothing of it can succeed. What was left is told.

    :param hopeless: returns why nothing can be stored any more; empty where it can.
    """
    site.drain()
    begun = clock.seconds()
    if site.channels:
        log.info(
            "stopping: {requests} requests are under way, and have {seconds:g} s to end",
            requests=_requests(site),
            seconds=seconds,
        )
    why = ""
    while site.channels and clock.seconds() - begun < seconds:
        why = hopeless()
        if why and clock.seconds() - begun >= LEAST:
            break
        await deferLater(clock, STEP)
    if not site.channels:
        return
    log.warn(
        "{requests} requests are cut off after {seconds:g} s ({why}): what was confirmed is safe, and clients go on from there",
        requests=_requests(site),
        seconds=round(clock.seconds() - begun, 1),
        why=why or "limits.drain is over",
    )
    for channel in list(site.channels):
        channel.forceAbortClient()


def _requests(site: Site) -> int:
    return sum(len(channel.requests) for channel in site.channels)
