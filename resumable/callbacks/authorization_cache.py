"""Answers of the application, remembered for a short time."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from resumable.single_flight import SingleFlight

T = TypeVar("T")

#: How many answers are remembered at most; beyond that the oldest is forgotten.
MOST = 4096


class Memory(Generic[T]):
    """Answers of the application, each with the question that it answers. Refusals and failures are not remembered.

    Two questions are the same when all their headers are, byte for byte. Then they come from the same client, with the
    same credentials, and are about the same thing. Identical questions that come while one is being asked wait for its
    answer. A question is kept as a keyed hash, so credentials stay in memory no longer than their request.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        """
        :param seconds: how long an answer is used, from the moment its question was asked; with 0 every question is
            asked.
        """
        self._seconds = seconds
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        #: By the hash of the question: the time it was asked, and the answer. Oldest first.
        self._words: dict[bytes, tuple[float, T]] = {}
        self._single_flight: SingleFlight[T] = SingleFlight()

    async def recall(self, question: Headers, ask: Callable[[], Awaitable[T]]) -> T:
        """Return the remembered answer to `question`, or the one that `ask` gets now. Errors of `ask` are passed on."""
        if not self._seconds:
            return await ask()
        key = self._key(question)
        known = self._words.get(key)
        # An age below 0 means that the clock was set back: the answer would be used for too long.
        if known is not None and 0 <= self._clock.seconds() - known[0] < self._seconds:
            return known[1]
        return await self._single_flight.join(key, lambda: self._learn(key, ask))

    async def _learn(self, key: bytes, ask: Callable[[], Awaitable[T]]) -> T:
        asked = self._clock.seconds()
        word = await ask()
        # Removed first, since a replaced entry would keep its former place in the order.
        self._words.pop(key, None)
        self._words[key] = (asked, word)
        self._forget(self._clock.seconds() - self._seconds)
        return word

    def _forget(self, before: float) -> None:
        """Forget what was asked at `before` or earlier, and the oldest answers beyond `MOST`."""
        while self._words:
            oldest = next(iter(self._words))
            if self._words[oldest][0] > before and len(self._words) <= MOST:
                return
            del self._words[oldest]

    def _key(self, question: Headers) -> bytes:
        # repr leaves no doubt about where one value ends and the next begins.
        shown = repr(sorted(question.getAllRawHeaders()))
        return hashlib.blake2b(shown.encode(), key=self._secret, digest_size=32).digest()
