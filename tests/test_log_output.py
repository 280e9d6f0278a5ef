"""A log that nobody reads holds nobody up."""

from __future__ import annotations

import fcntl
import os
import socket
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from resumable.log_output import LogOutput, may_block
from resumable.logs import dropped_line

LINE = "x" * 99 + "\n"


class Pipe:
    """A pipe with an output at its near end."""

    def __init__(self, most: int = 10_000) -> None:
        self.far, self.near = os.pipe()
        fcntl.fcntl(self.near, 1031, 4096)  # F_SETPIPE_SZ
        self.later: list[tuple[float, Callable[[], None]]] = []
        self.out = LogOutput(
            self.near, lambda delay, call: self.later.append((delay, call)), lambda count: f"[{count}]\n", most
        )

    def say(self, count: int) -> None:
        for _ in range(count):
            self.out.write(LINE)
            self.out.flush()

    def read(self) -> bytes:
        os.set_blocking(self.far, False)
        said = b""
        try:
            while piece := os.read(self.far, 65536):
                said += piece
        except BlockingIOError:
            pass
        os.set_blocking(self.far, True)
        return said

    def again(self) -> None:
        """Time has passed."""
        calls, self.later = self.later, []
        for _, call in calls:
            call()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    for fd in (pipe.far, pipe.near):
        with suppress(OSError):
            os.close(fd)


def test_a_reader_that_keeps_up_gets_all(pipe: Pipe) -> None:
    said = b""
    for _ in range(1000):
        pipe.say(1)
        said += pipe.read()
    assert said == LINE.encode() * 1000
    assert pipe.later == []


def test_a_full_pipe_is_not_waited_for(pipe: Pipe) -> None:
    """What it does not take is kept for a while, then dropped and counted; in order, with a line in the gap."""
    pipe.say(1000)
    assert len(pipe.out._waiting) <= 10_000
    assert len(pipe.later) == 1
    said = b""
    for _ in range(20):
        said += pipe.read()
        pipe.again()
    said += pipe.read()
    kept, _, gap = said.partition(b"[")
    count = int(gap.split(b"]")[0])
    assert kept == LINE.encode() * (1000 - count)
    assert 0 < count < 1000
    assert gap == b"%d]\n" % count
    pipe.say(1)
    assert pipe.read() == LINE.encode()
    pipe.again()
    assert pipe.later == []


def test_a_long_line(pipe: Pipe) -> None:
    """Longer than the pipe: it comes whole, or not at all."""
    line = "y" * 9000 + "\n"
    pipe.out.write(line)
    pipe.out.flush()
    pipe.out.write("z" * 20_000 + "\n")
    said = b""
    for _ in range(10):
        said += pipe.read()
        pipe.again()
    assert said == line.encode() + b"[1]\n"


def test_a_reader_that_has_gone(pipe: Pipe) -> None:
    """Nobody will ever know."""
    pipe.say(200)
    os.close(pipe.far)
    pipe.say(200)
    assert not pipe.out._waiting
    pipe.out.finish()


def test_the_end_waits_a_moment_for_the_reader(pipe: Pipe) -> None:
    """Not longer: it may never come."""
    pipe.say(90)
    said: list[bytes] = []

    def read() -> None:
        while piece := os.read(pipe.far, 1000):
            said.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    pipe.out.finish(10)
    os.close(pipe.near)
    reader.join()
    assert b"".join(said) == LINE.encode() * 90
    stuck = Pipe()
    stuck.say(90)
    stuck.out.finish(0.01)
    assert stuck.out._waiting
    os.close(stuck.far)
    os.close(stuck.near)


def test_a_terminal_that_is_stopped() -> None:
    """Ctrl-S."""
    master, slave = os.openpty()
    assert may_block(slave)
    out = LogOutput(slave, lambda delay, call: None, str)
    termios.tcflow(slave, termios.TCOOFF)
    for _ in range(2000):
        out.write(LINE)
        out.flush()
    termios.tcflow(slave, termios.TCOON)
    os.close(master)
    os.close(slave)


def test_a_socket_that_is_full() -> None:
    """As a service manager's journal is."""
    near, far = socket.socketpair()
    with near, far:
        assert may_block(near.fileno())
        out = LogOutput(near.fileno(), lambda delay, call: None, str, most=1000)
        for _ in range(20_000):
            out.write(LINE)
            out.flush()


def test_files_do_not_block(tmp_path: object) -> None:
    with open(f"{tmp_path}/log", "w") as file:
        assert not may_block(file.fileno())
    assert not may_block(1 << 20)


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_line_about_the_gap(form: str) -> None:
    line = dropped_line(form, 7)
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert "7 lines of this log were dropped" in line
