"""The tables in docs/: each between two comments, made of the results in bench/results/."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bench import growth
from bench.cost import Assumptions
from bench.price_report import price_report
from bench.prices import read_prices
from bench.report import tables
from bench.results import Results, merged, read_results

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parent.parent / "docs"
PAGES = (DOCS / "performance.md", DOCS / "pricing.md")
_BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def refreshed(text: str) -> str:
    """The page with its tables made anew.

    :raises ValueError: a comment names no kind of table.
    """

    def table(found: re.Match[str]) -> str:
        if found[2] not in KINDS:
            raise ValueError(f"no table {found[2]!r}: there are {', '.join(KINDS)}")
        return f"{found[1]}\n{KINDS[found[2]]().strip()}\n\n{found[3]}"

    return _BLOCK.sub(table, text)


def _runs() -> Results:
    return merged([read_results(path) for path in sorted(RESULTS.glob("run-*.json"))])


def _growth() -> str:
    measured = {
        name: steps for path in sorted(RESULTS.glob("growth-*.json")) for name, steps in growth.read(path).items()
    }
    return "\n".join(growth.table(growth.AXES[name], steps) for name, steps in measured.items())


KINDS: Mapping[str, Callable[[], str]] = {
    "report": lambda: tables(_runs(), read_prices()),
    "growth": _growth,
    "price": lambda: price_report(_runs(), read_prices(), Assumptions()),
}
