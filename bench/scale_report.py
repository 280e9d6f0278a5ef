"""What many nodes do, where PostgreSQL becomes the limit, and what a PB a month costs: reckoned from what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from bench.cost import TB, Assumptions, Model, cost_of_tb, make_models, sizing
from bench.ledger_speed import Cost
from bench.prices import Prices
from bench.results import Results
from bench.table import figure, render

#: Files of these sizes, in bytes.
SIZES = {"1 MB": 1e6, "100 MB": 1e8, "5 GB": 5e9}
#: Nodes, each of so many vCPUs.
NODES = (1, 10, 100)
VCPUS = 4
#: The server whose figures count: what people run, with TLS to the store. The plain one if that was not measured.
SERVERS = ("resumable-store-tls", "resumable-tls", "resumable")
PB = 1000 * TB
HOURS = 730


@frozen
class LedgerCost:
    """CPU seconds of PostgreSQL for an upload: of one chunk, and for each piece of a longer one."""

    upload: float
    piece: float
    costs: Sequence[Cost]
    rows: int
    #: Bytes for an upload in the table and in its indexes; for a piece likewise.
    upload_bytes: float
    piece_bytes: float

    def of(self, pieces: float) -> float:
        """Return the seconds for an upload of so many pieces."""
        return self.upload if pieces <= 1 else self.upload + self.piece * pieces


def read_ledger(path: Path) -> LedgerCost:
    """Read what ``bench ledger`` has written."""
    said = json.loads(path.read_text())
    costs = [Cost(**cost) for cost in said["costs"]]
    small = next(cost for cost in costs if cost.name.startswith("1 MiB, 8"))
    large = next(cost for cost in costs if cost.name.startswith("2 GiB"))
    sizes = {name: (table + indexes) / said["rows"] for name, table, indexes in said["sizes"]}
    # An upload is entered, its multipart upload is noted, and it is finished: the other commits are pieces.
    pieces = large.commits - 3
    each = (large.server_cpu - small.server_cpu) / pieces
    return LedgerCost(
        small.server_cpu / 1000,
        each / 1000,
        costs,
        said["rows"],
        sizes["uploads"],
        sizes["pieces"] / said["pieces"],
    )


def scale_report(results: Results, ledger: LedgerCost, prices: Prices, assumed: Assumptions) -> str:
    """Return the tables, in Markdown.

    :raises ValueError: the server was not measured.
    """
    models = {model.server: model for model in make_models(results, prices)}
    name = next((name for name in SERVERS if name in models), None)
    if name is None:
        raise ValueError("this server was measured under too few loads")
    return "\n\n".join(
        [
            f"## What an upload costs PostgreSQL, with {ledger.rows:,} uploads in it",
            _ledger(ledger),
            f"## What nodes of {VCPUS} vCPUs do, and what PostgreSQL needs for it",
            f"Uploads a second, and vCPUs of PostgreSQL; the service as `{name}`, machines {assumed.use:.0%} busy.",
            _nodes(models[name], ledger, assumed).rstrip(),
            "## A PB a month",
            _petabyte(models[name], ledger, prices, assumed).rstrip(),
        ]
    )


def _ledger(ledger: LedgerCost) -> str:
    head = ("uploads", "commits", "CPU ms of PostgreSQL", "log, KiB")
    lines = [
        [cost.name, figure(cost.commits), figure(cost.server_cpu), figure(cost.log / 1024)] for cost in ledger.costs
    ]
    rows = (
        f"A finished upload takes {ledger.upload_bytes:.0f} bytes in its table and indexes for as long as it is remembered; "
        f"each piece of a longer one {ledger.piece_bytes:.0f}."
    )
    return f"{render(head, lines).rstrip()}\n\n{rows}"


def _nodes(model: Model, ledger: LedgerCost, assumed: Assumptions) -> str:
    lines = []
    for name, size in SIZES.items():
        point = model.at(size)
        seconds = point.cpu * assumed.cpu_factor
        stored = ledger.of(point.calls.get("UploadPart", 0))
        line = [name, figure(seconds * 1000), figure(stored * 1000)]
        for nodes in NODES:
            rate = nodes * VCPUS * assumed.use / seconds
            line.append(f"{rate:,.0f} ({rate * size / 1e9:,.1f} GB/s): {figure(rate * stored / assumed.use)}")
        lines.append(line)
    head = ("files", "CPU ms", "of PostgreSQL", *(f"{nodes} node{'s' if nodes > 1 else ''}" for nodes in NODES))
    return render(head, lines)


def _petabyte(model: Model, ledger: LedgerCost, prices: Prices, assumed: Assumptions) -> str:
    lines = []
    speed = PB / (HOURS * 3600)
    for name, size in SIZES.items():
        cost, machines = cost_of_tb(model, size, prices, assumed), sizing(model, size, speed, prices, assumed)
        uploads = PB / size
        stored = ledger.of(model.at(size).calls.get("UploadPart", 0)) * uploads / (HOURS * 3600) / assumed.use
        lines.append(
            [
                name,
                f"{uploads / (HOURS * 3600):,.1f}",
                figure(cost.s3 * PB / TB),
                f"{machines.count} x {machines.instance.name} ({machines.limit}), {figure(machines.hour * HOURS)}",
                figure(stored),
            ]
        )
    head = ("files", "uploads a second", "S3 requests: $", "machines: $/month", "vCPUs of PostgreSQL")
    return render(head, lines)
