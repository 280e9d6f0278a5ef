"""What all commands say alike. It imports nothing of the service, so that commands for its clients begin quickly."""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO, Any

import click


class Failed(click.ClickException):
    """The command could not do what it was asked. It ends with exit status 1 and these lines."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the lines as they are to standard error (called by click)."""
        click.echo(self.message, file=file, err=file is None)


def examples(*shown: tuple[str, str]) -> str:
    """Return the text at the end of --help: command lines, each with its purpose."""
    lines = [line for command, purpose in shown for line in (f"  {command}", f"      {purpose}")]
    # \b keeps click from wrapping the lines of the paragraph anew.
    return "\n".join(["\b", "Examples:", *lines])


def one_line(parts: Iterable[str] | str) -> str:
    """Return a text, or several, as one line."""
    return " ".join((parts if isinstance(parts, str) else " ".join(parts)).split())
