"""What the process does when it is told to end, once or several times, and when its terminal goes away."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from types import FrameType
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger()


class Signals:
    """Ends the service in order at the first signal that asks for it; further ones change nothing.

    Where there is a terminal, SIGHUP says that it was closed, and ends the service. Elsewhere (a daemon, a service
    manager's child) SIGHUP is the usual request to read the configuration again. There it only writes a line to the
    log.
    """

    def __init__(self, reactor: Any, *, terminal: bool) -> None:
        """:param terminal: whether there is a terminal that may go away."""
        self._reactor = reactor
        self._terminal = terminal
        self._stopping = False

    def install(self) -> None:
        """Replace Twisted's handlers, which complain of a second signal. What is ignored (by nohup) stays ignored."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._came)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        # Not in the handler itself: the interrupted code may hold a lock of the log.
        self._reactor.callFromThread(self.heard, number)

    def heard(self, number: int) -> None:
        """Act on a signal."""
        name = signal.Signals(number).name
        if number == signal.SIGHUP and not self._terminal:
            _log.info("{signal} changes nothing: the configuration is read at the start", signal=name)
            return
        if self._stopping:
            _log.info(
                "{signal}: stopping already (only SIGKILL is faster, and loses what is not stored yet)", signal=name
            )
            return
        self._stopping = True
        _log.info("{signal}: stopping", signal=name)
        # twistd looks for this, and ends by the signal, so that whoever waits for the process sees which one it was.
        self._reactor._exitSignal = number
        with suppress(ReactorNotRunning):  # it is stopping already, by itself
            self._reactor.stop()


def has_terminal() -> bool:
    """Say whether the process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def mind_signals(reactor: Any) -> None:
    """Handle the signals of this process as soon as the reactor runs; if twistd becomes a daemon, it is one by then."""
    reactor.callWhenRunning(lambda: Signals(reactor, terminal=has_terminal()).install())
