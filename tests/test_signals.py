"""Signals that come twice, or from a terminal that is closed; in a process, because that is what they are sent to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import ReactorNotRunning

from resumable.signals import Signals

pytestmark = pytest.mark.process

ROOT = Path(__file__).parent.parent

#: A reactor that takes its time to stop, and is sent signals by itself; with or without a terminal, which may be closed.
PROGRAM = """
import fcntl, os, signal, sys, termios
terminal, *numbers = sys.argv[1:]
if terminal == "terminal":
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from resumable.signals import mind_signals

globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stdout)], redirectStandardIO=False)
stopped = Deferred()
stopping = []

def stop():
    print("stored what had arrived", flush=True)
    stopping.append(True)
    reactor.callLater(0.2, stopped.callback, None)
    return stopped

def go():
    for number in numbers:
        if number == "close":
            os.close(master)
        else:
            os.kill(os.getpid(), int(number))
    reactor.callLater(0.3, late)

def late():
    if not stopping:
        print("still running", flush=True)
        reactor.stop()

reactor.addSystemEventTrigger("before", "shutdown", stop)
mind_signals(reactor)
reactor.callWhenRunning(lambda: reactor.callLater(0, go))
reactor.run()
print("ended in order", flush=True)
"""


def run(*arguments: str, **options: Any) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,
        **options,
    )
    said = ended.stdout + ended.stderr
    assert "Traceback" not in said, said
    assert "ended in order" in said, said
    assert said.count("stored what had arrived") == 1, said
    return said


@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM, signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGTERM),
        (signal.SIGTERM, signal.SIGHUP),
    ],
)
def test_more_than_one(numbers: tuple[int, ...]) -> None:
    """The first ends the service in order, the others change nothing."""
    said = run("none", *(str(int(number)) for number in numbers))
    assert "still running" not in said


def test_a_terminal_that_is_closed() -> None:
    """The service that was started in it ends in order."""
    said = run("terminal", "close")
    assert "SIGHUP: stopping" in said
    assert "still running" not in said


def test_a_hangup_where_there_is_no_terminal() -> None:
    """As one sends it to a daemon to have its configuration read again: a line, and the service goes on."""
    said = run("none", str(int(signal.SIGHUP)))
    assert "SIGHUP changes nothing" in said
    assert "still running" in said


def test_a_hangup_that_is_ignored_stays_so() -> None:
    """By nohup."""
    said = run("terminal", "close", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert "still running" in said


def test_a_reactor_that_stops_by_itself_is_not_told_again() -> None:
    class Stopped:
        _exitSignal = None

        def stop(self) -> None:
            raise ReactorNotRunning

    Signals(Stopped(), terminal=False).heard(signal.SIGTERM)
