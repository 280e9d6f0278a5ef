"""How long the main application takes to say whether it allows."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from resumable.callbacks.authorizer import Ask, Authorizer, Grant, Refused
from resumable.metrics import Metrics
from resumable.model import Unavailable


class TimedAuthorizer:
    """Asks another authorizer and measures it. Whoever goes away before the answer is not measured."""

    def __init__(self, door: Authorizer, metrics: Metrics, clock: IReactorTime) -> None:
        self._door = door
        self._metrics = metrics
        self._clock = clock

    async def authorize(self, ask: Ask) -> Grant:
        """As the other answers."""
        begun = self._clock.seconds()
        try:
            grant = await self._door.authorize(ask)
        except (Refused, Unavailable) as error:
            outcome = "refused" if isinstance(error, Refused) else "unavailable"
            self._metrics.authorized(outcome, self._clock.seconds() - begun)
            raise
        self._metrics.authorized("granted", self._clock.seconds() - begun)
        return grant

    async def close(self) -> None:
        """Close the other."""
        await self._door.close()
