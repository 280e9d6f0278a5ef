"""The console script ``resumable``: commands for operators and for clients. ``twistd resumable`` runs the service."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from resumable import __version__
from resumable.commands.cli_text import examples
from resumable.commands.lazy import LazyGroup


@click.group(
    cls=LazyGroup,
    epilog=examples(
        ("resumable check --config config/app.yaml", "would the service run with this configuration?"),
        ("resumable uploads list --state open", "what is under way"),
        ("resumable events list --state dead", "what the application could not be told"),
        ("resumable clean --dry-run", "what is left over in the store"),
        ("resumable put film.mp4 https://up.example.com/", "upload a file, which goes on after a crash"),
    ),
)
@click.version_option(__version__, message="resumable %(version)s")
def resumable() -> None:
    """Commands around the service, which itself is run by `twistd resumable`."""


# `put` is to begin at once, and not to need what only the operator's commands do.
for name in ("check", "uploads", "events", "clean", "put", "completion"):
    resumable.add_lazily(name, f"resumable.commands.{name}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 if all is well, 1 with a line for each problem on standard error, 2 for wrong usage."""
    try:
        resumable.main(arguments, prog_name="resumable")
    except Exception as error:  # the operator is owed a line, whatever it is
        said = " ".join(str(error).split())
        click.echo(f"resumable: unexpected {type(error).__name__}: {said}", err=True)
        sys.exit(1)
