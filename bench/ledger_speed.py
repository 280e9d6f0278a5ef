"""What an upload costs the ledger alone: transactions, CPU and log of PostgreSQL, and rows and indexes on its disc.

The uploads are the service's own, in this process, into a store that keeps nothing. So what is measured is the ledger.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict, frozen
from sqlalchemy import Connection, create_engine, event, text
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.task import react
from zope.interface import implementer

from bench.postgres import postgres
from bench.results import machine
from bench.run import say
from bench.table import figure, render
from bench.units import MIB
from resumable.assembly import make_policy
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.notifier import NullNotifier, PeerNotifier, PostgresNotifier
from resumable.model import ObjectOptions
from resumable.settings import parse_settings
from resumable.stores.port import Made, PartRef, StoreLimits
from resumable.tasks import BackgroundTasks
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from resumable.uploads.service import UploadService

TICKS = os.sysconf("SC_CLK_TCK")
#: Rows written at once when the ledger is filled.
FILL = """
INSERT INTO uploads (id, protocol, owner, name, bucket, key, length, chunk_size, state, fragmented, options, overwrite,
    created, updated, finished, received, etag, crc32c)
SELECT 'filled-' || n, 'put', 'owner-' || n % 10000, 'file-' || n, 'bench', 'owner-' || n % 10000 || '/file-' || n,
    104857600, 6291456, 'finished', false, '{}', true, now.s - n * 2, now.s - n * 2, now.s - n * 2, now.s - n * 2,
    md5(n::text), n FROM generate_series(1, :rows) AS n, (SELECT extract(epoch FROM now()) AS s) AS now
"""
PIECES = """
INSERT INTO pieces (upload_id, first, "end", number, etag, crc32c, marks)
SELECT 'filled-' || n, (p - 1) * 6291456, p * 6291456, p, md5(n::text), n, decode(repeat('00', 288), 'hex')
FROM generate_series(1, :rows) AS n, generate_series(1, :pieces) AS p
"""


@frozen
class Work:
    """One kind of upload, and how many of them at a time."""

    name: str
    #: Bytes of an upload, and of a chunk where it is not the default.
    length: int
    clients: int
    uploads: int


WORKS = (
    Work("1 MiB, 1 at a time", MIB, 1, 400),
    Work("1 MiB, 8 at a time", MIB, 8, 1600),
    Work("1 MiB, 32 at a time", MIB, 32, 1600),
    Work("2 GiB, 8 at a time", 2048 * MIB, 8, 40),
)


@frozen
class Cost:
    """What the uploads of a work have cost, for each upload: milliseconds of CPU, bytes of the write-ahead log."""

    name: str
    uploads_per_second: float
    commits: float
    server_cpu: float
    own_cpu: float
    log: float


class Nowhere:
    """A store that takes everything and keeps nothing."""

    limits = StoreLimits()

    async def put_object(self, *given: Any, **how: Any) -> Made:
        return Made("etag", confirmed=True)

    async def init_multipart_upload(self, bucket: str, key: str, options: ObjectOptions, **how: Any) -> str:
        return "multipart"

    async def upload_part(self, *given: Any, **how: Any) -> str:
        return "etag"

    async def complete_multipart_upload(
        self, bucket: str, key: str, multipart_id: str, parts: Sequence[PartRef], **how: Any
    ) -> Made:
        return Made("etag", confirmed=True)


@implementer(IPushProducer)
class Zeros:
    """A body of zeros."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._going_on: Deferred[None] | None = None
        self._paused = False

    async def pour_into(self, consumer: IConsumer) -> None:
        consumer.registerProducer(self, True)
        left, piece = self._length, bytes(MIB)
        while left:
            if self._paused:
                self._going_on = Deferred()
                await self._going_on
            consumer.write(piece if left >= MIB else piece[:left])
            left -= min(left, MIB)
        consumer.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        going_on, self._going_on = self._going_on, None
        if going_on is not None:
            going_on.callback(None)

    def stopProducing(self) -> None:
        self.resumeProducing()


async def nothing() -> None:
    """Ask nobody whether the upload may be finished."""


def server_seconds(connection: Connection) -> float:
    """Return the CPU seconds that the server's processes have used, those that have ended included."""
    leader = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
    parent = int(_stat(leader)[1])
    total = sum(int(value) for value in _stat(parent)[11:15])
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = _stat(int(path.name))
        except OSError:
            continue
        if int(fields[1]) == parent:
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _numbers(engine: Any) -> tuple[float, float]:
    """Return the CPU seconds of the server so far, and the bytes of its write-ahead log."""
    with engine.connect() as connection:
        log = connection.execute(text("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")).scalar_one()
        return server_seconds(connection), float(log)


async def cost_of(work: Work, url: str, engine: Any) -> Cost:
    """Do the work on the ledger at this URL."""
    committed = 0

    def count(*_: object) -> None:
        nonlocal committed
        committed += 1

    database = Database(url, reactor)
    event.listen(database._engine, "commit", lambda c: count() if not _reads(c) else None)
    database.start()
    peers: PeerNotifier = PostgresNotifier(database, reactor) if database.on_server else NullNotifier()
    policy = make_policy(parse_settings("store: {bucket: bench}\nauth: open", "bench", {}), StoreLimits())
    budget = MemoryBudget(policy.memory, reactor)
    store: Any = Nowhere()
    deps = Dependencies(
        Ledger(database),
        store,
        Fragments(store, budget, ".resumable/", "ledger"),
        budget,
        ReadBackLimiter(policy.max_chunk),
        clock=reactor,
        background=BackgroundTasks(4),
        peers=peers,
    )
    uploads = UploadService(deps, policy)
    left = iter(range(work.uploads))

    async def client(who: int) -> None:
        for number in left:
            wanted = CreateRequest("put", f"{work.name}-{number}", f"owner-{who}", length=work.length)
            upload = await uploads.create(wanted, whole=True)
            body: Any = Zeros(work.length)
            report = await uploads.receive(upload, body, Span(0, work.length), revalidate=nothing, new=True)
            if not report.finished:
                raise ValueError("an upload was not finished")

    before, began, own = _numbers(engine), time.monotonic(), time.process_time()
    await gatherResults([Deferred.fromCoroutine(client(who)) for who in range(work.clients)])
    seconds, own = time.monotonic() - began, time.process_time() - own
    after = _numbers(engine)
    await database.close()
    count_of = work.uploads
    return Cost(
        work.name,
        count_of / seconds,
        committed / count_of,
        (after[0] - before[0]) / count_of * 1000,
        own / count_of * 1000,
        (after[1] - before[1]) / count_of,
    )


def _reads(connection: Connection) -> bool:
    return connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"


SIZES = """
SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class
WHERE relname IN ('uploads', 'pieces', 'events') ORDER BY relname
"""


def run(rows: int, pieces: int, out: Path) -> None:
    """Fill a ledger with finished uploads, and measure uploads on it. Print tables, and write the figures."""
    with postgres() as url:
        database = Database(url, reactor)
        database.prepare()
        database.release()
        engine = create_engine(url)
        began = time.monotonic()
        with engine.begin() as connection:
            connection.execute(text(FILL), {"rows": rows})
            connection.execute(text(PIECES), {"rows": rows, "pieces": pieces})
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        say(f"{rows} uploads with {pieces} pieces each were entered in {time.monotonic() - began:.0f} s")
        with engine.connect() as connection:
            sizes = [tuple(row) for row in connection.execute(text(SIZES))]
        costs: list[Cost] = []

        async def measure(_: Any) -> None:
            for work in WORKS:
                costs.append(await cost_of(work, url, engine))
                say(f"{work.name}: {costs[-1].uploads_per_second:.0f} a second")

        try:
            react(measure)
        except SystemExit as end:
            if end.code:
                raise
        engine.dispose()
    print(show(costs))
    for name, table, indexes in sizes:
        print(f"{name}: {table / rows:.0f} bytes for an upload in the table, {indexes / rows:.0f} in its indexes")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"ledger-{time.strftime('%Y-%m-%d-%H%M%S')}.json"
    figures = {"machine": machine(), "rows": rows, "pieces": pieces, "sizes": sizes}
    path.write_text(json.dumps({**figures, "costs": [asdict(cost) for cost in costs]}, indent=1, default=str))
    say(f"written: {path}")


def show(costs: Sequence[Cost]) -> str:
    """Return the costs as a table."""
    head = ("uploads", "a second", "commits", "CPU ms of PostgreSQL", "CPU ms of the service", "log, KiB")
    lines = [
        [
            cost.name,
            figure(cost.uploads_per_second),
            figure(cost.commits),
            figure(cost.server_cpu),
            figure(cost.own_cpu),
            figure(cost.log / 1024),
        ]
        for cost in costs
    ]
    return render(head, lines)
