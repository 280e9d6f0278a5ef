"""Moments that processes of one machine can compare."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from resumable import boot
from resumable.boot import moment, seconds_since


def test_each_is_another() -> None:
    assert len({moment() for _ in range(1000)}) == 1000


@pytest.mark.skipif(boot.machine() is None, reason="the system does not say when it was started")
def test_another_process_knows_how_old_it_is() -> None:
    """What is compared is the machine's clock, which goes on while one process follows another."""
    word = subprocess.run(
        [sys.executable, "-c", "from resumable.boot import moment; print(moment())"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    time.sleep(0.05)
    assert 0.05 <= seconds_since(word) < 60


def test_nothing_is_known_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another machine, or the same one started again: its clock says nothing."""
    monkeypatch.setattr(boot, "machine", lambda: "elsewhere")
    word = moment()
    monkeypatch.setattr(boot, "machine", lambda: "here")
    assert seconds_since(word) == 0


def test_nothing_is_known_where_no_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that does not say when it was started."""
    monkeypatch.setattr(boot, "machine", lambda: None)
    assert seconds_since(moment()) == 0


@pytest.mark.parametrize("word", ["", "0123456789abcdef", "a.b", "a.b.c", "a..", "a.b.nan-"])
def test_words_of_others(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a former version wrote, or a test."""
    monkeypatch.setattr(boot, "machine", lambda: "b")
    assert seconds_since(word) == 0


def test_a_word_from_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "machine", lambda: "b")
    assert seconds_since(f"a.b.{time.monotonic() + 100}") == 0
