"""What is shown on a terminal, whatever its size is and however many files there are."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console
from twisted.internet.task import Clock

from resumable.client.errors import Failed
from resumable.client.tracker import Progress
from resumable.commands import put_display
from resumable.commands.put_display import FRAMES, Display

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A display on a terminal of so many columns and rows."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int, rows: int, *, as_json: bool = False) -> None:
        self._written = io.StringIO()
        console = Console(file=self._written, force_terminal=True, width=columns, height=rows, color_system=None)
        monkeypatch.setattr(put_display, "Console", lambda **_: console)
        self.clock = Clock()
        self.display = Display(self.clock, as_json)

    def next(self) -> str:
        """What was written since, with what the next frame shows."""
        self.clock.advance(1 / FRAMES)
        written = CONTROL.sub("", self._written.getvalue())
        self._written.seek(0)
        self._written.truncate()
        return written


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_a_bar_is_one_line(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """However long the name is and however narrow the terminal."""
    terminal = Terminal(monkeypatch, columns, 24)
    terminal.display.begin("holiday/" + "a very long name " * 20)
    terminal.display.progress(Progress(0, 12_345_678_901, 98_765_432_101))
    terminal.next()
    terminal.display.progress(Progress(0, 12_345_678_902, 98_765_432_101))
    shown = terminal.next().strip("\r\n")
    terminal.display.close()
    assert "\n" not in shown
    assert len(shown) <= columns
    assert "a very" in shown
    assert ("GB" if columns >= 80 else "12%") in shown


def test_more_files_than_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is under way is seen; those before it stay above, and only once."""
    terminal = Terminal(monkeypatch, 80, 10)
    for number in range(30):
        terminal.display.begin(f"in/file-{number}.")
        terminal.display.progress(Progress(0, 5, 10))
        frame = terminal.next()
        assert f"file-{number}." in frame.splitlines()[-1]
        assert set(re.findall(r"file-\d+", frame)) == {f"file-{number}"}
        terminal.display.progress(Progress(10, 10, 10))
        terminal.display.ended(f"in/file-{number}.", "http://h/", None)
        assert "10/10 bytes" in terminal.next()
    terminal.display.close()


def test_what_failed_and_what_was_left(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """People are told of the first, programs of both; no bar of it stays."""
    terminal = Terminal(monkeypatch, 80, 10, as_json=True)
    terminal.display.begin("one.bin")
    terminal.display.failed("one.bin", "http://h/one.bin", "gave up", Failed("why"))
    terminal.display.left("two.bin", "http://h/two.bin", "gave up", Failed("why"))
    shown = terminal.next()
    terminal.display.close()
    assert shown.count("why") == 1
    assert shown.rstrip().splitlines()[-1] == "one.bin: why"
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["file"], one["state"]) for one in said] == [("one.bin", "gave up"), ("two.bin", "gave up")]


@pytest.mark.parametrize(
    "name", ["a[red].txt", r"a\[link=http:evil]b", r"\[@click=x]", ":smile:", "[", r"a\\[b]", "{task.id}"]
)
def test_a_name_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Nothing in it is taken for markup."""
    terminal = Terminal(monkeypatch, 120, 24)
    terminal.display.begin(name)
    shown = terminal.next()
    terminal.display.close()
    assert name in shown
