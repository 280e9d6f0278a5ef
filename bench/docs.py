"""The tables and pictures in docs/, made from the results in bench/results/. Each table stands between two comments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import growth
from bench.cost import Assumptions
from bench.price_report import price_report
from bench.prices import read_prices
from bench.report import picture, tables
from bench.results import Results, merged, read_results
from bench.scale_report import read_ledger, scale_report

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "performance.md", DOCS / "pricing.md", DOCS / "scale.md")
_BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """Return the page with its tables made anew.

    :raises ValueError: a comment names an unknown kind of table.
    """

    def table(found: re.Match[str]) -> str:
        if found[2] not in KINDS:
            raise ValueError(f"no table {found[2]!r}: there are {', '.join(KINDS)}")
        return f"{found[1]}\n{KINDS[found[2]]().strip()}\n\n{found[3]}"

    return _BLOCK.sub(table, text)


def pictures() -> Mapping[Path, str]:
    """Return the plots, by their files in docs/."""
    grown = {DOCS / f"growth-{name}.svg": growth.picture(growth.AXES[name], steps) for name, steps in _grown().items()}
    return {DOCS / "performance.svg": picture(_runs(), read_prices()), **grown}


def _runs() -> Results:
    return merged([read_results(path) for path in sorted(RESULTS.glob("run-*.json"))])


def _grown() -> Mapping[str, Sequence[growth.Step]]:
    paths = sorted(RESULTS.glob("growth-*.json"))
    return {name: steps for path in paths for name, steps in growth.read(path).items()}


KINDS: Mapping[str, Callable[[], str]] = {
    "report": lambda: tables(_runs(), read_prices()),
    "growth": lambda: "\n".join(growth.table(growth.AXES[name], steps) for name, steps in _grown().items()),
    "scale": lambda: scale_report(
        _runs(), read_ledger(max(RESULTS.glob("ledger-*.json"))), read_prices(), Assumptions()
    ),
    "price": lambda: price_report(_runs(), read_prices(), Assumptions()),
}
