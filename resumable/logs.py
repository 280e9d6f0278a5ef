"""Where log events go and what they look like: text as twistd writes it, or a JSON object for each line.

Much of what is logged comes from others: names, URLs, answers of a store or an application. Whatever it holds, an event
is one line, and nothing in it reaches a terminal as a command. In text, a traceback follows in indented lines of its
own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from math import floor
from typing import IO, Any

from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogFilterPredicate,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    PredicateResult,
    eventAsText,
    formatEvent,
    formatTime,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from resumable.clock import time_of_day
from resumable.timestamps import rfc3339

#: Messages of Twisted's about its factories and ports.
NOISE = re.compile(r"\S+ starting on \S+|\(\S+ Port \S+ Closed\)|(?:Starting|Stopping) factory .*")

#: Fields that Twisted itself puts into every event, and those that are shown under other names.
_INTERNAL = frozenset(("message", "time", "level", "system", "format", "isError", "traceback"))


def make_observer(form: str, level: str, out: IO[str]) -> ILogObserver:
    """Return an observer that writes to `out`.

    :param form: ``text`` or ``json``.
    :param level: the lowest level written: ``debug``, ``info``, ``warn`` or ``error``.
    """
    observer: ILogObserver = FileLogObserver(out, json_line if form == "json" else text_line)
    lowest = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(level))
    return FilteringLogObserver(observer, [lowest, _without_noise])


@implementer(ILogFilterPredicate)
def _without_noise(event: LogEvent) -> Any:
    """Leave out what Twisted says of its own objects: what they are for is told by the service."""
    legacy = event.get("log_namespace") == "log_legacy" and "log_text" in event
    noise = legacy and NOISE.fullmatch(str(event["log_text"])) is not None
    return PredicateResult.no if noise else PredicateResult.maybe


def dropped_line(form: str, count: int) -> str:
    """Return the line that says that `count` lines were dropped.

    :param form: ``text`` or ``json``.
    """
    event: LogEvent = {
        "log_time": time_of_day(),
        "log_level": LogLevel.warn,
        "log_namespace": __name__,
        "log_format": "{count} lines of this log were dropped: nobody has read it for a while",
        "count": count,
    }
    return json_line(event) if form == "json" else text_line(event)


def text_line(event: LogEvent) -> str:
    """Return the event as twistd writes it: time, ``[system]``, message. Empty for an event without a message."""
    failure = event.get("log_failure")
    lines = []
    if isinstance(failure, Failure):
        event = {"log_format": "failed", **event}
        lines = failure.getTraceback().rstrip("\n").split("\n")
    said = eventAsText(event, includeTraceback=False, formatTime=_second)
    return "\n\t".join(_printable(line, _as_python) for line in (said, *lines)) + "\n" if said else ""


def _second(when: float | None) -> str:
    return formatTime(when) if when is None else _of_second(floor(when))


@lru_cache(2)
def _of_second(when: int) -> str:
    """Return a time as twistd writes it. To find out the time zone takes as long as all else of a line."""
    return formatTime(when)


def json_line(event: LogEvent) -> str:
    """Return the event as a line of JSON: time (RFC 3339), level, system, message and plain fields.

    Fractions, which are seconds for the most part, have three digits at most.
    """
    shown: dict[str, Any] = {
        "time": rfc3339(event.get("log_time") or time_of_day(), "milliseconds"),
        "level": event["log_level"].name if "log_level" in event else "info",
        "system": event.get("log_namespace", "-"),
        "message": formatEvent(event),
    }
    for name, value in event.items():
        plain = value is None or isinstance(value, (str, int, float, bool))
        if plain and not name.startswith("log_") and name not in _INTERNAL:
            shown[name] = round(value, 3) if isinstance(value, float) else value
    failure = event.get("log_failure")
    if isinstance(failure, Failure):
        shown["traceback"] = failure.getTraceback()
    # JSON allows some line breaks in texts, and surrogates, which cannot be encoded. They are escaped too.
    return _printable(json.dumps(shown, ensure_ascii=False), _as_json) + "\n"


def _printable(text: str, escape: Callable[[str], str]) -> str:
    """Return `text` with every character escaped that is neither visible nor a plain space."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else escape(char) for char in text)


def _as_python(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _as_json(char: str) -> str:
    return json.dumps(char)[1:-1]
