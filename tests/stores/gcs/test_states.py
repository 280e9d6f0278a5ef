"""The state machine of `tests.uploads.over_http` over the client of Cloud Storage, whose requests go over real HTTP.

Some of its calls take several requests: an object is completed under a key of its own, looked at, moved and removed; a chunk
is composed of fragments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, frozen
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from pytest_twisted import ensureDeferred
from twisted.internet.threads import deferToThread

from resumable.ledger.maintenance import Maintenance
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.composing import word_of
from resumable.stores.gcs.staging import parse_id
from resumable.stores.port import StoreLimits
from resumable.uploads import grid
from tests.stateful import every_time, short_claims
from tests.stores.gcs.server import Fault, GcsServer
from tests.uploads.over_http import PREFIX, Mortal, OverHttp

#: What may go wrong: whatever is asked of the store in the life of an upload.
OPERATIONS = (
    *("PutObject", "GetObject", "HeadObject", "DeleteObject", "ListObjects"),
    *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "ListMultipartUploads"),
    *("GetObjectResource", "ListObjectResources", "RewriteObject", "ComposeObject"),
)
#: Ways to fail: status and code of the answer. Without a status there is none.
WAYS = {"503": (503, "ServiceUnavailable"), "page": (502, ""), "break": (0, ""), "death": (0, "")}
NAMES = st.one_of(st.just("*"), st.just("*"), st.sampled_from(OPERATIONS))


@frozen
class Trouble:
    """What befalls a request: the next with the name, or the next of all but for so many.

    :ivar done: whether it takes effect all the same.
    """

    name: str
    after: int
    way: str
    done: bool


class OnGoogle(OverHttp):
    """Objects that replace one another."""

    server: GcsServer
    limits = StoreLimits(smallest_part=1, joins_whole=True)
    troubles = st.builds(Trouble, NAMES, st.integers(0, 9), st.sampled_from(sorted(WAYS)), st.booleans())

    @classmethod
    def new_bucket(cls) -> GcsServer:  # type: ignore[override]
        cls.server.reset()
        cls.server.smallest_part = cls.limits.smallest_part
        return cls.server

    @classmethod
    def new_store(cls, bucket: GcsServer) -> GcsStore:  # type: ignore[override]
        # Without patience each trouble is the service's own. No chance is in the pauses.
        store = bucket.client(transport=Mortal(), patience=0.0, random=lambda: 1.0)
        store._dialect = evolve(store._dialect, limits=cls.limits)
        return store

    async def _start(self) -> None:
        await super()._start()
        self._store._ask_ledger = Maintenance(self._database).identity

    def befall(self, one: Trouble) -> None:
        status, code = WAYS[one.way]
        then: Callable[[], object] | None = self._transport.die if one.way == "death" else None
        with self._bucket.lock:
            self._bucket.faults.append(Fault(one.name, status, done=one.done, code=code, then=then))
            self._bucket.passing[one.name] += one.after if one.name == "*" else 0

    def mend(self) -> None:
        with self._bucket.lock:
            self._bucket.faults.clear()
            self._bucket.passing.clear()

    def waiting(self) -> bool:
        return bool(self._bucket.faults)

    def calls(self) -> list[Any]:
        return [self._store._calls, self._store._resources._calls]

    def multiparts_left(self) -> bool:
        return bool(self._bucket.multiparts)

    def _object(self, key: str) -> bytes | None:
        found = self._bucket.buckets["bucket"].get(key)
        return None if found is None else found.data

    def _part(self, multipart_id: str | None, number: int) -> bytes | None:
        if multipart_id is None:
            return None
        word, staged = word_of(multipart_id), parse_id(multipart_id)
        if word is not None:
            return self._object(f"{PREFIX}composed/parts/{word}/{number:05}")
        found = self._bucket.multiparts.get(multipart_id if staged is None else staged.upload_id)
        return found.parts.get(number, (None, ""))[0] if found is not None else None

    def make_room(self) -> None:
        if not self.overwrite:
            with self._bucket.lock:
                self._bucket.buckets["bucket"].pop("name", None)

    def left(self) -> list[Any]:
        """What is not an object, nor a multipart upload without parts, which only the janitor finds."""
        with self._bucket.lock:
            objects = [key for key in self._bucket.buckets["bucket"] if key != "name"]
            return [*objects, *(one.key for one in self._bucket.multiparts.values() if one.parts)]


class Staged(OnGoogle):
    """Objects that must not replace another: completed elsewhere, and moved."""

    overwrite = False


class Composed(OnGoogle):
    """Chunks of several cells, made of fragments within the store: see `tests.uploads.test_states.LargeChunks`."""

    step = 2
    limits = StoreLimits(smallest_part=3, largest_part=28, joins_whole=True)
    rules_of_policy: dict[str, Any] = {"chunk_size": 4, "memory": 32, "max_chunk": 4, "max_parts": 13}  # noqa: RUF012


class ComposedAlone(Composed):
    """The same, where no object must be replaced."""

    overwrite = False


@pytest.mark.soak
@pytest.mark.parametrize(("machine", "examples"), [(OnGoogle, 8), (Staged, 12), (Composed, 8), (ComposedAlone, 8)])
@ensureDeferred
async def test_whatever_happens(
    gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, logged: list[Any], machine: type[OnGoogle], examples: int
) -> None:
    """Every example is some twenty steps, always the same ones."""
    monkeypatch.setattr(grid, "STEP", machine.step)
    short_claims(monkeypatch)
    monkeypatch.setattr(machine, "server", gcs, raising=False)
    how = every_time(examples, 20, shrinks=False)
    await deferToThread(run_state_machine_as_test, machine, settings=how)
    logged.clear()  # of all that went wrong
