"""The log: whatever an event holds it is one line, and nothing in it commands a terminal."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import Logger, LogLevel, eventAsText, formatTime, globalLogPublisher
from twisted.python import log as legacy
from twisted.python.failure import Failure

from resumable.logs import make_observer, text_line
from resumable.model import Upload
from resumable.uploads.log import log_upload

FORMS = ("text", "json")
#: What ends a line somewhere, and what a terminal obeys.
NASTY = "a\nb\r\nc\x0bd\x0ce\x1cf\x85g\u2028h\u2029i\x1b[31mj\x9b2Jk\x00l\x7fm\u202en\ud800o\u200bp"
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} \[test#info\] ")


def written(form: str, message: str, **values: Any) -> str:
    """What is written for an event, which has to be possible in UTF-8."""
    out = io.StringIO()
    Logger("test", observer=make_observer(form, "info", out)).info(message, **values)
    return out.getvalue().encode().decode()


@given(form=st.sampled_from(FORMS), text=st.text() | st.just(NASTY))
def test_an_event_is_a_line(form: str, text: str) -> None:
    """Whatever a value is, and also as the message itself."""
    for line in (
        written(form, "name={name} why={why}", name=text, why=ValueError(text)),
        written(form, re.sub("[{}]", "", text) or "-"),
    ):
        assert line.endswith("\n")
        assert line[:-1].isprintable()
        assert len(line.splitlines()) == 1
        assert LINE.match(line) if form == "text" else json.loads(line)["system"] == "test"


def test_json_keeps_every_value() -> None:
    """What is escaped for the eye is still the same text for a program."""
    text = NASTY.replace("\ud800", "") + "é😀\U000e0001"
    event = json.loads(written("json", "{name}", name=text))
    assert (event["name"], event["message"]) == (text, text)


def test_what_can_be_read_stays_as_it_is() -> None:
    assert written("text", "{name}", name="größe 文 😀 100% \\ {x}").endswith("] größe 文 😀 100% \\ {x}\n")
    assert "größe 文 😀" in written("json", "{name}", name="größe 文 😀")


def test_a_traceback_is_indented() -> None:
    """It may quote others, whose line break then begins no line of the log."""
    out = io.StringIO()
    forged = "no\n2026-01-01T00:00:00+0000 [resumable#info] upload finished\u2028\x1b[31m"
    Logger("test", observer=make_observer("text", "info", out)).failure(
        "{what} failed", Failure(ValueError(forged)), what="it"
    )
    first, *others = out.getvalue().removesuffix("\n").split("\n")
    assert first.endswith("[test#critical] it failed")
    assert len(others) >= 3
    assert all(line.startswith("\t") and line[1:].isprintable() for line in others)


def test_a_failure_without_a_message_is_told() -> None:
    out = io.StringIO()
    make_observer("text", "info", out)(
        {"log_namespace": "test", "log_level": LogLevel.error, "log_failure": Failure(ValueError("why"))}
    )
    assert out.getvalue().splitlines()[0].endswith("] failed")
    assert "ValueError: why" in out.getvalue()


@pytest.mark.parametrize("form", FORMS)
def test_a_value_that_cannot_be_shown(form: str) -> None:
    """An event that cannot be put into words is a line all the same."""

    class Mute:
        def __str__(self) -> str:
            raise ValueError("no\nwords")

        __repr__ = __str__

    assert len(written(form, "{value}", value=Mute()).splitlines()) == 1


@pytest.mark.parametrize("when", [0.0, 0.999, 1.5, 1_761_440_399.9, -0.5, -1.0, -1.5, None])
def test_the_time_is_what_twistd_writes(when: float | None) -> None:
    assert text_line({"log_format": "x", "log_time": when}).split()[0] == formatTime(when)


def test_an_event_that_says_nothing_is_not_written() -> None:
    out = io.StringIO()
    make_observer("text", "info", out)({"log_namespace": "test", "log_level": LogLevel.error})
    assert out.getvalue() == ""


def test_json_is_for_programs() -> None:
    """A time that can be compared as text, and numbers that are no longer than they mean."""
    event = json.loads(written("json", "took {seconds}", seconds=1.23456789, count=3))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert (event["seconds"], event["count"]) == (1.235, 3)


@pytest.mark.parametrize("why", ["", "the client went away"])
def test_what_happens_to_an_upload_has_the_same_fields_in_both_forms(why: str) -> None:
    upload = Upload("id", "put", "al ice", "n", "b", "k", 5, 16, created=1.0, updated=1.0)
    lines = {}
    for form in FORMS:
        out = io.StringIO()
        observer = make_observer(form, "info", out)
        globalLogPublisher.addObserver(observer)
        log_upload("interrupted", upload, 3, 2.23456, why)
        globalLogPublisher.removeObserver(observer)
        lines[form] = out.getvalue()
    event = json.loads(lines["json"])
    assert {name for name in event if name not in ("time", "level", "system", "message")} == {
        *("what", "id", "owner", "name", "bytes", "seconds"),
        *(["why"] if why else []),
    }
    assert event["seconds"] == 1.235
    assert event.get("why", "") == why
    end = f" ({why})" if why else ""
    assert lines["text"].endswith(f"upload interrupted id=id owner='al ice' name='n' bytes=3 seconds=1.235{end}\n")


def test_what_twisted_says_of_its_own_objects_is_left_out() -> None:
    out = io.StringIO()
    observer = make_observer("text", "info", out)
    globalLogPublisher.addObserver(observer)
    legacy.msg("StreamingSite starting on 8080")
    legacy.msg("(TCP Port 8080 Closed)")
    legacy.msg("Starting factory <resumable.web.site.StreamingSite object at 0x7f>")
    legacy.msg("a library says that it is starting on 8080")
    globalLogPublisher.removeObserver(observer)
    assert [line.partition("] ")[2] for line in out.getvalue().splitlines()] == [
        "a library says that it is starting on 8080"
    ]


@pytest.mark.parametrize(
    "event",
    [
        {"log_format": "{a!r} of {b:.2f}, {c[0]} and {d.real}", "a": "x", "b": 1.0, "c": [1], "d": 3},
        {"log_format": "{called()} and {a}", "called": lambda: "called", "a": "{a}"},
        {"log_format": "{missing}", "a": 1},
        {"log_format": "{0} {}"},
        {"log_format": "{a.missing} {a!x}", "a": 1},
        {"log_format": b"bytes {a}", "a": 1},
        {"log_format": 7},
        {"log_format": "plain {{braces}}", "log_system": "a system"},
        {"log_format": "no level", "log_level": None, "log_namespace": "-"},
        {"log_format": ""},
    ],
)
@pytest.mark.parametrize("when", [None, 0.0, -0.5, 1.999, 1_790_000_000.25])
def test_a_line_is_twisteds(event: dict[str, Any], when: float | None) -> None:
    """It is only written faster."""
    known = {"log_namespace": "test", "log_level": LogLevel.info, **event, "log_time": when}
    theirs = eventAsText(known, includeTraceback=False)
    assert text_line(known) == (theirs.replace("\n", "\\n") + "\n" if theirs else "")
