"""The state machine of `tests.uploads.over_http` over the client of S3 and real TLS, on sockets that take little at a time.

That is how buckets are spoken to, and over TLS bodies are sent in a way of their own (`resumable.stores.transport.tls`).
Behind the TLS is moto, in this process, so that what is stored can be looked at after each step.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from hypothesis import seed
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from resumable.stores.port import StoreLimits
from resumable.stores.s3.client import S3Store
from resumable.stores.transport import tls as sending
from resumable.stores.transport.tls import StoreTls, TlsSending
from resumable.uploads import grid
from tests.faults import tls
from tests.faults.proxy import FaultyS3, Rule
from tests.s3servers import MotoServer
from tests.stateful import every_time, short_claims
from tests.stores.transport.test_tls import AUTHORITY
from tests.uploads.over_http import PREFIX, Mortal, OverHttp
from tests.uploads.test_states import CHUNK, run

#: Bytes. A chunk has 16 times as many: nearly three records, the last one short. A segment may be short, too.
UNIT = 3001
#: Bytes that a socket takes at a time, as far as the kernel lets that be said.
ROOM = 4096

#: What goes wrong with any request.
WAYS = (
    *("503", "SlowDown", "break before", "break after", "break in the body", "cut short"),
    *("cut in the body", "half closed in the body", "goodbye in the body", "503 in the body"),
    *(way for way in tls.ANSWER if way != "record stalled"),  # which takes time, and is no fault in the end
)
#: What goes wrong only with one that has a body.
WAYS_WITH_BODY = (*tls.BODY, "break in the body")
WITH_BODY = ("UploadPart", "PutFragment", "PutObject", "Complete", "DeleteObjects")
WITHOUT_BODY = (
    *("Create", "Abort", "ListParts", "ListMultipartUploads", "ListObjects"),
    *("GetFragment", "DeleteFragment", "HeadObject", "DeleteObject"),
)
#: Where the process may die: before the work is done, after it, and in the middle of a body.
DEATHS = ("break before", "break after", "break in the body")
#: Examples that belong together: the later ones repeat much of the first ones. So there are several runs of few.
EXAMPLES = 5


@frozen
class Trouble:
    """What befalls a request.

    :ivar which: its kind, ``*`` for any, and whose turn it is among those that come, from 1.
    :ivar death: whether it is the process that breaks off.
    """

    which: tuple[str, int]
    way: str
    death: bool = False


_ANY = [("*", nth) for nth in (1, 1, 2, 2, 3, 4, 5)]
_BODIES = [(kind, nth) for kind in WITH_BODY for nth in (1, 2)]
_OTHERS = [(kind, 1) for kind in WITHOUT_BODY]
TROUBLES = [
    *(Trouble(which, way) for way in WAYS for which in (*_ANY, *_BODIES, *_OTHERS)),
    *(Trouble(which, way) for way in WAYS_WITH_BODY for which in _BODIES),
    *(Trouble(which, way, True) for way in DEATHS for which in (*_ANY, *_BODIES, *_OTHERS)),
    *(Trouble(("Handshake", 1), way) for way in tls.HANDSHAKE for _ in range(4)),
]


class Inside(MotoServer):
    """moto in this process. No request but those of `MotoBehindTls` gets to it."""

    endpoint = "http://127.0.0.1:1"


class MotoBehindTls(FaultyS3):
    """What is stored, and the TLS before it.

    :ivar unforeseen: what moto itself has stumbled on.
    :ivar befallen: what has gone wrong how often, and whether with a request that has a body.
    """

    def __init__(self, own: Path) -> None:
        from moto.moto_server.werkzeug_app import create_backend_app
        from moto.s3.models import s3_backends
        from werkzeug.test import Client

        super().__init__(Inside(), tls.server_context(own))
        # Connections that are accepted have what the listening socket has.
        self._server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self._client = Client(create_backend_app("s3"))
        self._backend = s3_backends["123456789012"]["aws"]
        self._one_by_one = threading.Lock()
        self.unforeseen: list[Exception] = []
        self.befallen: Counter[tuple[str, bool]] = Counter()

    def reset(self) -> None:
        """Have an empty bucket, too."""
        super().reset()
        with self._one_by_one:
            self._begun.clear()
            self._backend.reset()
            self._backend.create_bucket(self.bucket, "us-east-1")

    def pass_on(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any, bytes]:
        with self._one_by_one:
            try:
                said = self._client.open(
                    target, method=method, headers=dict(headers), data=body, base_url="http://127.0.0.1"
                )
                return said.status_code, said.headers, said.get_data()
            except Exception as error:
                self.unforeseen.append(error)
                raise ConnectionError from error

    def rule_for(self, kind: str, target: str) -> Rule | None:
        """A handshake is no request: what befalls any request does not befall it."""
        if kind != "Handshake":
            rule = super().rule_for(kind, target)
        else:
            with self._lock:
                rule = next((one for one in self._rules if one.kind == kind and not one.hit), None)
                if rule is not None:
                    rule.seen, rule.hit = rule.nth, True
        if rule is not None:
            self.befallen["death" if rule.then is not None else rule.fault, kind in WITH_BODY] += 1
        return rule

    def objects(self) -> list[str]:
        with self._one_by_one:
            return list(self._backend.buckets[self.bucket].keys)

    def object(self, key: str) -> bytes | None:
        with self._one_by_one:
            found = self._backend.buckets[self.bucket].keys.get(key)
            return None if found is None else bytes(found.value)

    def part(self, multipart_id: str, number: int) -> bytes | None:
        with self._one_by_one:
            found = self._backend.buckets[self.bucket].multiparts.get(multipart_id)
            part = found.parts.get(number) if found is not None else None
            return None if part is None else bytes(part.value)

    def remove(self, key: str) -> None:
        with self._one_by_one:
            keys = self._backend.buckets[self.bucket].keys
            if key in keys:
                del keys[key]

    def multiparts(self) -> list[tuple[str, int]]:
        """Key, and number of parts, of each multipart upload."""
        with self._one_by_one:
            return [(one.key_name, len(one.parts)) for one in self._backend.buckets[self.bucket].multiparts.values()]

    def pending(self) -> bool:
        """Say whether something is still to go wrong."""
        with self._lock:
            return any(rule.seen < rule.nth for rule in self._rules)


class Secure(OverHttp):
    """Objects that replace one another."""

    unit = UNIT
    server: MotoBehindTls
    limits = StoreLimits(smallest_part=1)
    rules_of_policy: dict[str, Any] = {"chunk_size": CHUNK * UNIT}  # noqa: RUF012
    troubles = st.sampled_from(TROUBLES)
    # A fragment may land right after those of the cancelled upload were deleted, and the process die before it hears of that.
    orphans = frozenset({"multipart", "fragment"})
    for_janitor = PREFIX

    @classmethod
    def new_bucket(cls) -> MotoBehindTls:  # type: ignore[override]
        cls.server.reset()
        return cls.server

    @classmethod
    def new_store(cls, bucket: MotoBehindTls) -> S3Store:  # type: ignore[override]
        # Without patience each trouble is the service's own. No chance is in the pauses.
        return S3Store(
            reactor,
            endpoint=bucket.endpoint,
            access_key=bucket.access_key,
            secret_key=bucket.secret_key,
            limits=cls.limits,
            transport=Mortal(tls=AUTHORITY.policy),
            patience=0.0,
            random=lambda: 1.0,
            pauses=(0.01, 0.02),
            proxies=False,
        )

    def befall(self, one: Trouble) -> None:
        kind, nth = one.which
        self._bucket.fail(kind, one.way, nth, then=self._transport.die if one.death else None)
        if kind == "Handshake":
            # There are none as long as connections are kept.
            run(self._transport.close())

    def mend(self) -> None:
        self._bucket.mend()

    def waiting(self) -> bool:
        return self._bucket.pending()

    def _object(self, key: str) -> bytes | None:
        return self._bucket.object(key)

    def _part(self, multipart_id: str | None, number: int) -> bytes | None:
        return self._bucket.part(multipart_id or "", number)

    def make_room(self) -> None:
        if not self.overwrite:
            self._bucket.remove("name")

    def left(self) -> list[str]:
        """What is not an object, nor a multipart upload without parts, which only the janitor finds."""
        objects = [key for key in self._bucket.objects() if key != "name"]
        return [*objects, *(key for key, parts in self._bucket.multiparts() if parts)]

    def multiparts_left(self) -> bool:
        return bool(self._bucket.multiparts())


class Alone(Secure):
    """Objects that must not replace another."""

    overwrite = False


class Joined(Secure):
    """Chunks of several cells, which the store joins: see `tests.uploads.test_states.LargeChunks`."""

    step = 2
    limits = StoreLimits(smallest_part=3 * UNIT, largest_part=28 * UNIT)
    rules_of_policy: dict[str, Any] = {  # noqa: RUF012
        **{"chunk_size": 4 * UNIT, "memory": 32 * UNIT, "max_chunk": 4 * UNIT, "max_parts": 10}
    }


@pytest.fixture(scope="module")
def moto_behind_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoBehindTls]:
    own, _ = tls.pem_files(tmp_path_factory.mktemp("pem"))
    with MotoBehindTls(own) as server:
        yield server


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many bodies were sent in how many rounds of the reactor, on sockets that take little at a time."""
    counted: Counter[int] = Counter()
    connect, write, release = StoreTls.makeConnection, TlsSending._write, TlsSending.release
    of_each: Counter[TlsSending] = Counter()

    def in_little_room(self: StoreTls, transport: Any) -> None:
        transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
        connect(self, transport)

    def write_once(self: TlsSending) -> Any:
        of_each[self] += 1
        return write(self)

    def end(self: TlsSending) -> None:
        if self in of_each:
            counted[of_each.pop(self)] += 1
        release(self)

    monkeypatch.setattr(StoreTls, "makeConnection", in_little_room)
    monkeypatch.setattr(TlsSending, "_write", write_once)
    monkeypatch.setattr(TlsSending, "release", end)
    # As it is where hundreds send at once: a chunk is not encrypted at one go.
    monkeypatch.setattr(sending, "MOST_AHEAD", sending.LEAST_AHEAD)
    return counted


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest.mark.parametrize(("machine", "runs"), [(Secure, 12), (Alone, 8), (Joined, 5)])
@ensureDeferred
async def test_whatever_happens(
    moto_behind_tls: MotoBehindTls,
    monkeypatch: pytest.MonkeyPatch,
    rounds: Counter[int],
    machine: type[Secure],
    runs: int,
) -> None:
    """Every example is some twenty steps, always the same ones."""
    monkeypatch.setattr(grid, "STEP", machine.step)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", machine.limits.smallest_part)
    monkeypatch.setattr(machine, "server", moto_behind_tls, raising=False)
    short_claims(monkeypatch)
    moto_behind_tls.befallen.clear()
    how = every_time(EXAMPLES, 20, shrinks=False)
    for run_of_them in range(runs):
        one_run = seed(f"{machine.__name__} {run_of_them}")(type(machine.__name__, (machine,), {}))
        await deferToThread(run_state_machine_as_test, one_run, settings=how)
    assert moto_behind_tls.unforeseen == []
    assert TlsSending.active == 0
    # It was as it should be: bodies that took several pieces, some of them cut, and answers that were lost.
    assert sum(count for each, count in rounds.items() if each > 2) > 5 * runs, rounds
    befallen = moto_behind_tls.befallen
    cut, lost = ("break in the body", *tls.BODY), ("break after", "cut short", *tls.ANSWER)
    assert all(sum(befallen[way, True] for way in ways) for ways in (cut, lost)), befallen
    assert befallen["death", True] + befallen["death", False], befallen
