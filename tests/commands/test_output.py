"""What is for people: sizes, ages, and texts that cannot play with the terminal."""

from __future__ import annotations

import pytest

from resumable.commands.output import age, printable, say_table, size
from resumable.timestamps import rfc3339


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, "?"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (6 * 1024**2, "6.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_size(count: int | None, shown: str) -> None:
    assert size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(-1, "0 s"), (59.9, "60 s"), (60, "1 m"), (7199, "1 h"), (7200, "2 h"), (10 * 86400, "10 d")]
)
def test_age(seconds: float, shown: str) -> None:
    assert age(seconds) == shown


def test_rfc3339() -> None:
    assert rfc3339(1_767_225_600.9) == "2026-01-01T00:00:00Z"


def test_names_cannot_forge(capsys: pytest.CaptureFixture[str]) -> None:
    """A client's name stays on its line and in its cell, whatever is in it."""
    name = "a\n\x1b[2Jb\r\u202e[red]c[/red]\ud800"
    say_table(("Name", ">Size"), [(name, "1"), ("d" * 300, "2")])
    said = capsys.readouterr().out
    assert printable(name) == "a\\n\\x1b[2Jb\\r\\u202e[red]c[/red]\\ud800"
    assert printable(name) in said
    assert len(said.splitlines()) == 3
