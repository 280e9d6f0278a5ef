"""Requests of the put protocol about one upload."""

from __future__ import annotations

from typing import Any

from twisted.web.http_headers import Headers

from resumable.client.body import Body
from resumable.client.errors import Again, Lost
from resumable.client.http import Answer, Http
from resumable.client.limiter import Limiter
from resumable.client.ranges import merge
from resumable.client.sources import Source
from resumable.client.tracker import Tracker
from resumable.client.wire import Done, Stored, read_answer, read_json
from resumable.clock import now


class Conversation:
    """Asks how far the upload is, brings ranges of it, and cancels it."""

    def __init__(
        self, http: Http, clock: Any, url: str, headers: Headers, tracker: Tracker, limiter: Limiter | None
    ) -> None:
        """
        :param headers: go with every request.
        """
        self.tracker = tracker
        self._http = http
        self._clock = clock
        self._url = url.encode("ascii")
        self._headers = headers
        self._limiter = limiter

    async def ask(self, total: int | None = None, *, swarm: bool = False) -> Stored | Done:
        """Return how far the upload is. Errors as `resumable.client.wire.read_answer`.

        :param total: declares the length of a stream that has ended.
        """
        said = f"bytes */{'*' if total is None else total}"
        answer = await self._request(b"PUT", {"Content-Range": said})
        outcome = read_answer(answer, now(self._clock), None)
        if swarm and isinstance(outcome, Stored) and outcome.cut:
            return await self._look(outcome)
        return outcome

    async def _look(self, known: Stored) -> Stored:
        """Return all ranges, where the header of an answer has no room for them."""
        said = read_json((await self._request(b"GET", {})).body) or {}
        try:
            ranges = [(int(first), int(last) + 1) for first, last in said["stored"]]
        except (KeyError, TypeError, ValueError, OverflowError):
            return known
        if not all(0 <= first < end for first, end in ranges):
            return known
        return Stored(merge([*known.ranges, *ranges]), known.chunk_size)

    async def put(
        self, source: Source, first: int, end: int, total: int | None, *, swarm: bool = False
    ) -> Stored | Done:
        """Bring a range. Errors as `resumable.client.wire.read_answer`.

        :param end: exclusive.
        :param total: None while the length is not known.
        """
        extra = {"Content-Range": f"bytes {first}-{end - 1}/{'*' if total is None else total}"}
        if swarm:
            extra["Upload-Swarm"] = "?1"
        body = Body(source, first, end, self._clock, self._limiter, self.tracker.sent)
        try:
            outcome = read_answer(await self._request(b"PUT", extra, body), now(self._clock), first, swarm=swarm)
        except Again as again:
            again.sent = body.sent
            raise
        finally:
            self.tracker.ended(body.sent)
        return outcome

    async def put_nothing(self) -> Stored | Done:
        """Make an object of no bytes."""
        return read_answer(await self._request(b"PUT", {}), now(self._clock), 0)

    async def cancel(self) -> None:
        """Cancel what is there, if anything is and the caller may; else whoever brings bytes next hears why not.

        :raises Again: it may be done the next time.
        """
        answer = await self._request(b"DELETE", {})
        try:
            read_answer(answer, now(self._clock), 0)
        except Again:
            raise
        except Exception:
            return

    async def _request(self, method: bytes, extra: dict[str, str], body: Body | None = None) -> Answer:
        headers = self._headers.copy()
        for name, value in extra.items():
            headers.setRawHeaders(name, [value])
        try:
            return await self._http.request(method, self._url, headers, body)
        except Lost as lost:
            raise Again(f"no answer: {lost}") from None
