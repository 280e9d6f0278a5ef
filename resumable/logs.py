"""Where log events go and what they look like: text as twistd writes it, or a JSON object for each line."""

from __future__ import annotations

import json
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
    textFileLogObserver,
)
from twisted.python.failure import Failure

#: What Twisted itself puts into every event, and what is shown under other names.
_INTERNAL = frozenset(("message", "time", "level", "system", "format", "isError", "traceback"))


def make_observer(form: str, level: str, out: IO[str]) -> ILogObserver:
    """An observer that writes to `out`.

    :param form: ``text`` or ``json``.
    :param level: the lowest level written: ``debug``, ``info``, ``warn`` or ``error``.
    """
    observer: ILogObserver = FileLogObserver(out, json_line) if form == "json" else textFileLogObserver(out)
    lowest = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    return FilteringLogObserver(observer, [lowest])


def json_line(event: LogEvent) -> str:
    """The event as one line of JSON: time (seconds since the epoch), level, system, message, and its plain fields."""
    shown: dict[str, Any] = {
        "time": event.get("log_time"),
        "level": event["log_level"].name if "log_level" in event else "info",
        "system": event.get("log_namespace", "-"),
        "message": formatEvent(event),
    }
    for name, value in event.items():
        plain = value is None or isinstance(value, (str, int, float, bool))
        if plain and not name.startswith("log_") and name not in _INTERNAL:
            shown[name] = value
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        shown["traceback"] = failure.getTraceback()
    return json.dumps(shown, ensure_ascii=False) + "\n"
