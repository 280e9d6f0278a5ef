"""The client as it should be: it asks how far the upload is and goes on from there, until it is told the end."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from tests.harness import Answer, Service

CHUNK = 6 << 20
#: Two chunks and a bit.
DATA = random.Random(11).randbytes(2 * CHUNK + 654_321)


class Uploader:
    """One upload. Every offset it is told is checked: what was acknowledged once stays so.

    :param breaks: offsets at which it breaks off, once each.
    """

    def __init__(self, service: Service, name: str, data: bytes = DATA, *, breaks: Sequence[int] = ()) -> None:
        self.service = service
        self.name = name
        self.data = data
        self.acknowledged = 0
        self.finished = False
        self._breaks = list(breaks)

    def query(self) -> Answer | None:
        """How far is it? None if nobody answers."""
        try:
            return self.service.request("PUT", f"/upload/{self.name}", {"Content-Range": "bytes */*"})
        except (OSError, AssertionError):
            return None

    def offset(self) -> int | None:
        """Where to go on, the whole length when it is finished, or None: ask later."""
        answer = self.query()
        if answer is None or answer.status == 503:
            return None
        if answer.status == 404:
            offset = 0
        elif answer.status in (200, 201):
            offset = len(self.data)
            self.finished = True
        else:
            assert answer.status == 308, answer
            offset = int(answer.headers.get("range", "bytes=0--1").removeprefix("bytes=0-")) + 1
        assert offset >= self.acknowledged, f"{self.name}: {self.acknowledged} were acknowledged, now {offset}"
        self.acknowledged = offset
        return offset

    def send(self, offset: int, end: int | None = None, *, seconds: float = 20.0) -> Answer | None:
        """Send from `offset` to the end, or break off before `end`; the answer, if one was to be had."""
        headers = {"Content-Range": f"bytes {offset}-{len(self.data) - 1}/{len(self.data)}"}
        headers["Content-Length"] = str(len(self.data) - offset)
        try:
            with self.service.client(seconds) as client:
                client.head("PUT", f"/upload/{self.name}", headers)
                client.send(self.data[offset:end])
                return client.answer() if end is None else None
        except (OSError, AssertionError):
            return None

    def step(self) -> bool:
        """Ask, and go on; whether the upload is finished."""
        offset = self.offset()
        if offset is None:
            time.sleep(0.1)
            return False
        if self.finished:
            return True
        end = next((at for at in self._breaks if at > offset), None)
        if end is not None:
            self._breaks.remove(end)
            self.send(offset, end)
            self._settle(end)
            return False
        answer = self.send(offset)
        if answer is not None and answer.status in (200, 201):
            self.acknowledged = len(self.data)
            self.finished = True
            return True
        assert answer is None or answer.status in (308, 409, 503), answer
        return False

    def _settle(self, end: int) -> None:
        """What was sent before the break is being stored: give that a moment, but do not insist."""
        until = time.monotonic() + 0.5
        while time.monotonic() < until and (self.offset() or 0) < end:
            time.sleep(0.02)

    def run(self, *, seconds: float = 60.0) -> None:
        """To the end."""
        until = time.monotonic() + seconds
        while not self.step():
            assert time.monotonic() < until, f"{self.name} does not get on; {self.acknowledged} bytes"
