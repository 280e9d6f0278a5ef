"""The body of an empty object, where the request that finishes it brings none."""

from __future__ import annotations

from twisted.internet.interfaces import IConsumer, IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class EmptyBody:
    """The body of an empty object."""

    async def pour_into(self, consumer: IConsumer) -> None:
        """Give nothing to `consumer`."""
        consumer.registerProducer(self, True)
        consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        """Do nothing: there is nothing to wait with."""

    def resumeProducing(self) -> None:
        """Do nothing: there is nothing to go on with."""

    def stopProducing(self) -> None:
        """Do nothing: there is nothing to end."""
