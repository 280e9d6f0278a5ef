"""The console script ``resumable``: the operator's commands."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version

from resumable.ledger.engine import LedgerError, open_engine, prepare
from resumable.settings import SettingsError, load_settings

_EXAMPLES = """examples:
  resumable check --config config/app.yaml
      read the configuration and open the ledger; exit status 1 if one fails
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="resumable",
        description="Commands around the service, which itself is run by `twistd resumable`.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"resumable {version('resumable')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="is the configuration good?")
    check.add_argument("--config", "-c", required=True, metavar="FILE", help="the configuration, a YAML file")
    chosen = parser.parse_args(arguments)
    return run_check(chosen.config)


def run_check(config: str) -> int:
    """Look at everything a start depends on; a line for each."""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        print(*error.problems, sep="\n", file=sys.stderr)
        return 1
    print(f"{config}: ok")
    try:
        engine = open_engine(settings.ledger.reveal())
        prepare(engine)
        engine.dispose()
    except LedgerError as error:
        print(f"ledger {settings.ledger}: {error}", file=sys.stderr)
        return 1
    print(f"ledger {settings.ledger}: ok")
    return 0
