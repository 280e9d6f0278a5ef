"""What ``resumable put`` shows: bars on a terminal, a line for each trouble, and JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars
from rich.table import Column
from rich.text import Text
from twisted.internet.task import LoopingCall

from resumable.client.errors import ClientError
from resumable.client.tracker import Progress
from resumable.commands.output import printable

#: Bars are drawn so many times a second.
FRAMES = 8
#: Columns of a terminal that has room for all there is to say about a file.
ROOMY = 72


def _columns(width: int) -> list[ProgressColumn]:
    """Return what a bar's line consists of, on a terminal of so many columns. A line is never folded."""
    # The longest names are cut, so that what changes can be seen.
    # A name is no markup: what is in brackets belongs to it.
    name = TextColumn(
        "{task.description}", markup=False, table_column=Column(no_wrap=True, max_width=max(8, width // 3))
    )
    if width < ROOMY:
        return [name, BarColumn(bar_width=None, table_column=Column(ratio=1)), TaskProgressColumn()]
    whole = [kind(table_column=Column(no_wrap=True)) for kind in (DownloadColumn, TransferSpeedColumn)]
    return [name, BarColumn(bar_width=None, table_column=Column(ratio=1)), *whole, TimeRemainingColumn()]


class Display:
    """Shows how files get on, on standard error; bars only if that is a terminal.

    There is one bar at a time, in the terminal's last line. What is above stays: there may be more files than lines.
    """

    def __init__(self, clock: Any, as_json: bool) -> None:
        self._json = as_json
        console = Console(stderr=True)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._file = ""
        if console.is_terminal:
            # Drawn by the reactor: rich would use a thread.
            columns = _columns(console.width)
            # Standard output is for programs: it does not go through rich.
            self._bars = Bars(*columns, console=console, auto_refresh=False, expand=True, redirect_stdout=False)
            self._draw = LoopingCall(self._bars.refresh)
            self._draw.clock = clock
            self._bars.start()
            self._draw.start(1 / FRAMES)

    def begin(self, file: str) -> None:
        """Show that a file begins."""
        self._file = file
        if self._bars is not None:
            name = "standard input" if file == "-" else os.path.basename(file.rstrip("/")) or file
            self._task = self._bars.add_task(printable(name), total=None)

    def progress(self, now: Progress) -> None:
        """Show how far the file is."""
        if now.waiting:
            self.say(f"{self._file}: {now.waiting}; next try in {now.seconds:.0f} s")
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=now.sent, total=now.total)

    def say(self, line: str) -> None:
        """Write a line to standard error, above the bars."""
        if self._bars is not None:
            self._bars.console.print(Text(printable(line)))
        else:
            click.echo(printable(line), err=True)

    def _clear(self, *, keep: bool) -> None:
        """Take the bar away.

        :param keep: leave it above, as it is now.
        """
        if self._bars is not None and self._task is not None:
            line = self._bars.get_renderable()
            self._bars.remove_task(self._task)
            self._task = None
            # What is printed next would be followed by the bar as it was last drawn.
            self._bars.refresh()
            if keep:
                self._bars.console.print(line)

    def ended(self, file: str, url: str, result: Any) -> None:
        """Show that a file is stored."""
        self._clear(keep=True)
        if self._json:
            click.echo(json.dumps({"file": file, "url": url, "state": "finished", "result": result}))

    def failed(self, file: str, url: str, state: str, error: ClientError) -> None:
        """Show that a file is not stored, and why."""
        self._clear(keep=False)
        self.left(file, url, state, error)
        self.say(f"{file}: {error.detail}")

    def left(self, file: str, url: str, state: str, error: ClientError) -> None:
        """Tell programs alone that a file is not stored: people hear once why the rest is not."""
        self._clear(keep=True)
        if self._json:
            said = {"status": error.status, "detail": error.detail}
            click.echo(json.dumps({"file": file, "url": url, "state": state, "error": said}))

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._draw.stop()
            self._bars.stop()
