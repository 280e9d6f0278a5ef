"""The command line."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench import growth, huge, ledger_speed, soak
from bench.cost import Assumptions
from bench.docs import PAGES, pictures, refreshed
from bench.limits import raise_file_limit
from bench.loads import LOADS, chosen, pick
from bench.price_report import price_report
from bench.prices import TABLE, read_prices
from bench.processes import StartFailed
from bench.report import picture, tables
from bench.results import Results, machine, merged, read_results
from bench.run import Bench, clear, compare, say, workplace
from bench.servers.catalogue import SERVERS
from bench.sink.handle import Sink
from bench.units import parse_size

EXAMPLES = """examples:
  python -m bench list                              servers and loads, and what is missing for them
  python -m bench run --quick                       every server and load, small: two or three minutes
  python -m bench run                               the whole comparison: about an hour
  python -m bench run --servers nginx resumable --loads one --rounds 3
  python -m bench run --servers resumable --scale 0.1
  python -m bench report bench-results/*.json       tables and picture of runs that were made before
  python -m bench growth                            how cost grows: ten minutes
  python -m bench growth --axes uploads --values 1 1000000
  python -m bench growth --axes size --values 1MiB 1GiB 100GiB
  python -m bench soak --minutes 120                memory over two hours
  python -m bench ledger --rows 1000000             what uploads cost PostgreSQL, with a million rows
  python -m bench huge --length 1TiB --minutes 5    one upload larger than any bench can send: as much as the time allows
  python -m bench price bench-results/*.json        what a TB costs
"""
#: The scale and the number of rounds for --quick.
QUICK_SCALE, QUICK_ROUNDS = 0.05, 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command, and return the exit status."""
    options = make_parser().parse_args(arguments)
    raise_file_limit()
    try:
        status: int | None = options.command(options)
        return status or 0
    except (ValueError, StartFailed) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Upload servers side by side: the same bytes, to the same S3 sink, in the same run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="servers and loads")
    listing.set_defaults(command=list_all)

    run = commands.add_parser("run", help="measure servers under loads")
    run.set_defaults(command=run_comparison)
    run.add_argument("--servers", nargs="+", metavar="NAME", help="default: all")
    run.add_argument("--loads", nargs="+", metavar="NAME", help="default: all")
    run.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    run.add_argument("--scale", type=float, default=1.0, metavar="X", help="factor for each load's bytes (default: 1)")
    run.add_argument("--quick", action="store_true", help=f"--scale {QUICK_SCALE} --rounds {QUICK_ROUNDS}")
    _common(run)

    report = commands.add_parser("report", help="tables and picture of results, several runs as one")
    report.set_defaults(command=report_again)
    report.add_argument("results", nargs="+", type=Path, metavar="JSON")
    report.add_argument("--svg", type=Path, help="write the picture there")

    grow = commands.add_parser("growth", help="how time and memory of this server grow")
    grow.set_defaults(command=run_growth)
    grow.add_argument("--axes", nargs="+", metavar="NAME", help=f"default: all: {', '.join(growth.AXES)}")
    grow.add_argument(
        "--values", nargs="+", type=parse_size, metavar="N", help="in place of the axis's own; needs one of --axes"
    )
    _common(grow)

    soaking = commands.add_parser("soak", help="what becomes of this server's memory over hours")
    soaking.set_defaults(command=run_soak)
    soaking.add_argument("--minutes", type=float, default=10.0, help="default: 10")
    soaking.add_argument("--clients", type=int, default=4, help="default: 4")
    soaking.add_argument("--rate", type=float, default=1000.0, help="uploads a minute of all clients (default: 1000)")
    soaking.add_argument("--least", type=parse_size, default=1000, metavar="SIZE", help="default: 1000")
    soaking.add_argument("--most", type=parse_size, default="14MiB", metavar="SIZE", help="default: 14MiB")
    soaking.add_argument("--broken", type=float, default=0.4, help="share of uploads that break off (default: 0.4)")
    soaking.add_argument("--memory", type=parse_size, default="64MiB", metavar="SIZE", help="limits.memory (64MiB)")
    soaking.add_argument("--every", type=float, default=5.0, help="seconds between samples (default: 5)")
    soaking.add_argument(
        "--variables", nargs="+", default=(), metavar="NAME=VALUE", help="environment of the server: MALLOC_ARENA_MAX=1"
    )
    _common(soaking)

    ledger = commands.add_parser("ledger", help="what uploads cost PostgreSQL as the ledger")
    ledger.set_defaults(command=lambda options: ledger_speed.run(options.rows, options.pieces, options.out))
    ledger.add_argument("--rows", type=int, default=1_000_000, help="uploads that are there before (default: 1000000)")
    ledger.add_argument("--pieces", type=int, default=4, help="pieces of each of them (default: 4)")
    _common(ledger)

    large = commands.add_parser("huge", help="one upload of a TiB, as much of it as the time allows")
    large.set_defaults(command=run_huge)
    large.add_argument("--length", type=parse_size, default="1TiB", metavar="SIZE", help="as declared (default: 1TiB)")
    large.add_argument("--minutes", type=float, default=5.0, help="default: 5")
    large.add_argument("--breaks", type=float, default=60.0, help="seconds after which it breaks off (default: 60)")
    large.add_argument("--memory", type=parse_size, default="256MiB", metavar="SIZE", help="limits.memory (256MiB)")
    large.add_argument(
        "--work", type=Path, metavar="DIR", help="for logs and temporary files; on a disc, if those are to count"
    )

    price = commands.add_parser("price", help="what a TB costs, by measured CPU and S3 requests")
    price.set_defaults(command=run_price)
    price.add_argument("results", nargs="+", type=Path, metavar="JSON", help="results that `run` has written")
    price.add_argument(
        "--prices", type=Path, default=TABLE, metavar="JSON", help="default: the table in bench/prices.json"
    )
    price.add_argument("--use", type=float, default=0.6, help="how busy machines are, 0 to 1 (default: 0.6)")
    price.add_argument(
        "--cpu-factor", type=float, default=1.0, metavar="X", help="CPU seconds of a vCPU there for one here"
    )
    docs = commands.add_parser("docs", help="put tables and pictures of bench/results into docs/")
    docs.set_defaults(command=refresh_docs)
    return parser


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("bench-results"), metavar="DIR", help="default: bench-results")
    parser.add_argument(
        "--work", type=Path, metavar="DIR", help="for logs and temporary files; on a disc, if those are to count"
    )


def list_all(options: argparse.Namespace) -> int:
    """``list``."""
    for name, kind in SERVERS.items():
        missing = kind.missing()
        print(f"{name:16} {kind.about}" + (f" -- skipped, install {missing}" if missing else ""))
    print()
    for name, load in LOADS.items():
        print(f"{name:16} {load.about}")
    return 0


def run_comparison(options: argparse.Namespace) -> int:
    """Do ``run``. Return 1 if an upload failed or a server could not be measured, else 0."""
    scale, rounds = (QUICK_SCALE, QUICK_ROUNDS) if options.quick else (options.scale, options.rounds)
    if scale <= 0 or rounds < 1:
        raise ValueError("--scale is above 0, --rounds 1 or more")
    loads = chosen(options.loads, scale)
    names = pick(options.servers, SERVERS, "server")
    skipped = {name: missing for name in names if (missing := SERVERS[name].missing()) is not None}
    for name, missing in skipped.items():
        say(f"{name} is skipped: install {missing}")
    able = [SERVERS[name] for name in names if name not in skipped]
    results = Results(
        date=time.strftime("%Y-%m-%d %H:%M:%S"),
        command=f"run --scale {scale:g} --rounds {rounds}",
        machine=machine(),
        servers={kind.name: kind.about for kind in able},
        loads={load.name: load.about for load in loads},
        skipped=skipped,
        measurements=[],
    )
    base = options.out / f"run-{stamp(results.date)}"
    with bench_in(options.work) as bench:
        servers = [kind(bench.sink) for kind in able]
        expected = rounds * sum(server.can(load) for server in servers for load in loads)
        for measured in compare(servers, loads, rounds, bench):
            results.measurements.append(measured)
            # Written after each measurement, so that a run that is stopped leaves its results.
            results.write(base.with_suffix(".json"))
    if not results.measurements:
        raise ValueError("nothing could be measured")
    base.with_suffix(".svg").write_text(picture(results, read_prices()))
    print(tables(results, read_prices()))
    say(f"written: {base}.json and .svg")
    return int(len(results.measurements) < expected or any(one.failures for one in results.measurements))


def report_again(options: argparse.Namespace) -> int:
    """``report``."""
    results, prices = merged([read_results(path) for path in options.results]), read_prices()
    print(tables(results, prices))
    if options.svg:
        options.svg.write_text(picture(results, prices))
    return 0


def run_growth(options: argparse.Namespace) -> int:
    """Do ``growth``. Return 1 if an upload failed, else 0."""
    names = pick(options.axes, growth.AXES, "axis")
    if options.values and len(names) != 1:
        raise ValueError("--values need one axis: say which with --axes")
    date, where = time.strftime("%Y-%m-%d %H:%M:%S"), machine()
    base = options.out / f"growth-{stamp(date)}"
    options.out.mkdir(parents=True, exist_ok=True)
    measured = {}
    with bench_in(options.work) as bench:
        for name in names:
            axis = growth.AXES[name]
            steps = measured[name] = growth.measure(axis, options.values or axis.values, bench)
            print(growth.table(axis, steps), flush=True)
            base.with_name(f"{base.name}-{name}.svg").write_text(growth.picture(axis, steps))
            growth.write(base.with_suffix(".json"), date, where, measured)
    say(f"written: {base}.json and a picture for each axis")
    return int(any(step.failures for steps in measured.values() for step in steps))


def run_soak(options: argparse.Namespace) -> int:
    """Do ``soak``. Return 1 if an upload failed, or the server took more memory than it may, else 0."""
    if min(options.minutes, options.rate, options.clients, options.every) <= 0 or not 0 <= options.broken <= 1:
        raise ValueError("--minutes, --rate, --clients and --every are above 0, --broken is from 0 to 1")
    how = soak.Soak(
        seconds=options.minutes * 60,
        clients=options.clients,
        rate=options.rate,
        least=options.least,
        most=options.most,
        broken=options.broken,
        memory=options.memory,
        every=options.every,
        variables=options.variables,
    )
    base = options.out / f"soak-{stamp(time.strftime('%Y-%m-%d %H:%M:%S'))}"
    options.out.mkdir(parents=True, exist_ok=True)
    with bench_in(options.work) as bench:
        outcome = soak.run(how, bench, base)
    say(soak.gist(how, outcome))
    say(f"written: {base}.json and .svg")
    return int(not soak.passed(how, outcome))


def run_huge(options: argparse.Namespace) -> int:
    """Do ``huge``. Return 1 if something went wrong, or the server took more memory than it may, else 0."""
    if min(options.length, options.minutes, options.breaks) <= 0:
        raise ValueError("--length, --minutes and --breaks are above 0")
    how = huge.Huge(length=options.length, seconds=options.minutes * 60, breaks=options.breaks, memory=options.memory)
    with bench_in(options.work) as bench:
        outcome = huge.run(how, bench)
    print(huge.table(how, outcome))
    return int(not huge.passed(how, outcome))


@contextmanager
def bench_in(work: Path | None) -> Iterator[Bench]:
    """Provide a sink and a directory for servers, which are removed afterwards."""
    directory = workplace(work)
    sink = Sink(directory)
    try:
        yield Bench(sink, directory)
    finally:
        sink.stop()
        clear(directory)


def stamp(date: str) -> str:
    """Return the date in a form for file names."""
    return date.replace(" ", "-").replace(":", "")


def run_price(options: argparse.Namespace) -> int:
    """``price``."""
    if not 0 < options.use <= 1 or options.cpu_factor <= 0:
        raise ValueError("--use is above 0 and at most 1, --cpu-factor above 0")
    results = merged([read_results(path) for path in options.results])
    print(
        price_report(results, read_prices(options.prices), Assumptions(use=options.use, cpu_factor=options.cpu_factor))
    )
    return 0


def refresh_docs(options: argparse.Namespace) -> int:
    """``docs``."""
    for path in PAGES:
        path.write_text(refreshed(path.read_text()))
    for path, drawn in pictures().items():
        path.write_text(drawn)
    return 0
