"""What ``resumable put`` shows: bars on a terminal, a line for each trouble, and JSON for programs."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from rich.progress import Progress as Bars
from rich.text import Text
from twisted.internet.task import LoopingCall

from resumable.client.errors import ClientError
from resumable.client.tracker import Progress
from resumable.commands.output import printable

#: Bars are drawn so many times a second.
FRAMES = 8


class Display:
    """Shows how files get on, on standard error; bars only if that is a terminal."""

    def __init__(self, clock: Any, as_json: bool) -> None:
        self._json = as_json
        console = Console(stderr=True)
        self._bars: Bars | None = None
        self._task: TaskID | None = None
        self._file = ""
        if console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
            )
            # Drawn by the reactor: rich would use a thread.
            self._bars = Bars(*columns, console=console, auto_refresh=False)
            self._draw = LoopingCall(self._bars.refresh)
            self._draw.clock = clock
            self._bars.start()
            self._draw.start(1 / FRAMES)

    def begin(self, file: str) -> None:
        """Show that a file begins."""
        self._file = file
        if self._bars is not None:
            name = "standard input" if file == "-" else os.path.basename(file.rstrip("/")) or file
            self._task = self._bars.add_task(str(Text(printable(name))).replace("[", r"\["), total=None)

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

    def ended(self, file: str, url: str, result: Any) -> None:
        """Show that a file is stored."""
        if self._json:
            click.echo(json.dumps({"file": file, "url": url, "state": "finished", "result": result}))

    def failed(self, file: str, url: str, state: str, error: ClientError) -> None:
        """Show that a file is not stored, and why."""
        if self._json:
            said = {"status": error.status, "detail": error.detail}
            click.echo(json.dumps({"file": file, "url": url, "state": state, "error": said}))
        self.say(f"{file}: {error.detail}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._draw.stop()
            self._bars.stop()
