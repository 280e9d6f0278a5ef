"""The console script ``resumable``: the operator's commands. The service itself is run by ``twistd resumable``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from resumable import __version__
from resumable.commands.check import check
from resumable.commands.clean import clean
from resumable.commands.cli_common import examples
from resumable.commands.events import events
from resumable.commands.uploads import uploads


@click.group(
    epilog=examples(
        ("resumable check --config config/app.yaml", "would the service run with this configuration?"),
        ("resumable uploads list --state open", "what is under way"),
        ("resumable events list --state dead", "what the application could not be told"),
        ("resumable clean --dry-run", "what is left over in the store"),
    )
)
@click.version_option(__version__, message="resumable %(version)s")
def resumable() -> None:
    """Commands around the service, which itself is run by `twistd resumable`."""


resumable.add_command(check)
resumable.add_command(uploads)
resumable.add_command(events)
resumable.add_command(clean)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 if all is well, 1 with a line for each problem on standard error, 2 for wrong usage."""
    try:
        resumable.main(arguments, prog_name="resumable")
    except Exception as error:  # the operator is owed a line, whatever it is
        said = " ".join(str(error).split())
        click.echo(f"resumable: unexpected {type(error).__name__}: {said}", err=True)
        sys.exit(1)
