"""What the application has said, remembered for a while."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from twisted.internet.interfaces import IReactorTime
from twisted.web.http_headers import Headers

from resumable.single_flight import SingleFlight

T = TypeVar("T")

#: How many words are remembered at most; beyond that the oldest is forgotten.
MOST = 4096


class Memory(Generic[T]):
    """Words of the application, by everything that it was shown. A refusal, and trouble, is never remembered.

    Two questions are the same when their headers are, all of them and to the byte: then they are of the same client,
    with the same credentials, about the same thing. Identical questions that come while one is under way wait for its
    answer. Questions are known by a keyed hash: no credentials lie in memory for longer than their request.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        """
        :param seconds: how long a word counts from the moment it was asked for; with 0 each question is asked.
        """
        self._seconds = seconds
        self._clock = clock
        self._secret = secrets.token_bytes(32)
        #: With the time each was asked for, oldest first.
        self._words: dict[bytes, tuple[float, T]] = {}
        self._single_flight: SingleFlight[T] = SingleFlight()

    async def recall(self, question: Headers, ask: Callable[[], Awaitable[T]]) -> T:
        """The word that was given to `question`, or is given to it now by `ask`, whose errors come out here."""
        if not self._seconds:
            return await ask()
        key = self._key(question)
        known = self._words.get(key)
        # Not less than 0 either: a clock that was set back would make words last.
        if known is not None and 0 <= self._clock.seconds() - known[0] < self._seconds:
            return known[1]
        return await self._single_flight.join(key, lambda: self._learn(key, ask))

    async def _learn(self, key: bytes, ask: Callable[[], Awaitable[T]]) -> T:
        asked = self._clock.seconds()
        word = await ask()
        # Put in anew, since a word that is replaced would keep its former place in the order.
        self._words.pop(key, None)
        self._words[key] = (asked, word)
        self._forget(self._clock.seconds() - self._seconds)
        return word

    def _forget(self, before: float) -> None:
        """Forget what was asked for by then, and what is too much."""
        while self._words:
            oldest = next(iter(self._words))
            if self._words[oldest][0] > before and len(self._words) <= MOST:
                return
            del self._words[oldest]

    def _key(self, question: Headers) -> bytes:
        # repr leaves no doubt where one value ends and the next begins.
        shown = repr(sorted(question.getAllRawHeaders()))
        return hashlib.blake2b(shown.encode(), key=self._secret, digest_size=32).digest()
