"""Runs a command's coroutine on the reactor, once in the process's life."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, cast

import click
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    globalLogBeginner,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from resumable.clock import run_on_monotonic_time
from resumable.commands.cli_text import one_line
from resumable.commands.output import printable

T = TypeVar("T")


def run(work: Callable[[Any], Coroutine[Any, Any, T]], *, within: float | None = None) -> T:
    """Return what ``work(reactor)`` returns, or raise what it raises.

    It is cancelled at Ctrl-C, and when `within` seconds are over (None: never). Its ``finally`` clauses are still
    waited for.
    Warnings and errors that are logged meanwhile go to standard error, a line each.

    :raises TimeoutError: it took too long.
    :raises click.Abort: it was interrupted.
    """
    from twisted.internet import reactor

    run_on_monotonic_time(reactor)
    clock = cast(Any, reactor)
    levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.warn)
    # What cannot be freed while the store is out is no warning in the service's log, where the outage is one. Here it is.
    levels.setLogLevelForNamespace("resumable.uploads.freeing.Freeing", LogLevel.info)
    warnings = FilteringLogObserver(_warn, [levels])
    globalLogBeginner.beginLoggingTo([warnings], redirectStandardIO=False, discardBuffer=True)
    outcome: list[T | Failure] = []

    def begin() -> None:
        going = Deferred.fromCoroutine(work(reactor))
        if within is not None:
            going.addTimeout(within, clock, _too_late)
        ended = going.addBoth(outcome.append)

        def interrupt() -> Deferred[None]:
            going.cancel()
            return ended

        clock.addSystemEventTrigger("before", "shutdown", interrupt)
        ended.addCallback(lambda _: clock.callLater(0, _stop, clock) and None)

    clock.callWhenRunning(begin)
    clock.run()
    result = outcome[0] if outcome else Failure(CancelledError())
    if not isinstance(result, Failure):
        return result
    if result.check(CancelledError):
        raise click.Abort
    result.raiseException()


def _stop(clock: Any) -> None:
    # At Ctrl-C the reactor is stopping already.
    with suppress(ReactorNotRunning):
        clock.stop()


def _too_late(_: object, seconds: float) -> NoReturn:
    raise TimeoutError(f"not done within {seconds:g} s")


@implementer(ILogObserver)
def _warn(event: LogEvent) -> None:
    click.echo(printable(one_line(formatEvent(event))), err=True)
