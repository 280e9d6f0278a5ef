"""What is pure: ranges, answers, URLs, and how options are written."""

from __future__ import annotations

import os
import random
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import click
import pytest
import pytest_twisted
from click.testing import CliRunner
from twisted.internet.task import Clock
from twisted.web.http_headers import Headers

from resumable.client.api import prepare
from resumable.client.conversation import Conversation
from resumable.client.errors import Again, Busy, Failed, Gone, Refused
from resumable.client.http import Answer
from resumable.client.ranges import cut, merge, missing, offset_of, parse_range, size_of
from resumable.client.sources import Identity
from resumable.client.state import Claim, Record, default_folder, without_secrets
from resumable.client.targets import targets
from resumable.client.tracker import Tracker
from resumable.client.wire import Done, Stored, read_answer
from resumable.commands.put import put, stdin
from resumable.commands.put_values import headers, patience, rate

CONTEXT = click.Context(click.Command("put"))
PARAM = click.Option(["--option"])


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        (None, []),
        ("bytes=0-9", [(0, 10)]),
        ("0-9", [(0, 10)]),
        ("bytes=0-9, 20-29", [(0, 10), (20, 30)]),
        ("bytes=0-9,10-19", [(0, 20)]),
        ("bytes=9-0", None),
        ("bytes=-9", None),
        ("bytes=0-99999999999999999999", None),
        ("", None),
    ],
)
def test_range_headers(value: str | None, ranges: list[tuple[int, int]] | None) -> None:
    assert parse_range(value) == ranges


def test_ranges_against_sets() -> None:
    chance = random.Random(1)
    for _ in range(300):
        pairs = [(first, first + chance.randrange(1, 9)) for first in (chance.randrange(40) for _ in range(5))]
        stored = merge(pairs)
        there = {at for first, end in pairs for at in range(first, end)}
        assert size_of(stored) == len(there)
        assert all(a[1] < b[0] for a, b in pairwise(stored))
        first, end = sorted((chance.randrange(50), chance.randrange(50)))
        gaps = missing(stored, first, end)
        assert {at for low, high in gaps for at in range(low, high)} == set(range(first, end)) - there
        pieces = list(cut(gaps, 4))
        assert merge(pieces) == merge(gaps)
        assert all(low // 4 == (high - 1) // 4 for low, high in pieces)
        assert offset_of(stored) == next(at for at in range(99) if at not in there)


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


def test_answers() -> None:
    assert read_answer(answer(200, b'{"a": 1}'), 0, 5) == Done(200, {"a": 1})
    assert read_answer(answer(201, b"fine"), 0, 5) == Done(201, None)
    stored = read_answer(answer(308, range="bytes=0-4", upload_chunk_size="7"), 0, 0)
    assert stored == Stored([(0, 5)], 7)
    assert read_answer(answer(308, upload_chunk_size="x" * 30), 0, 0) == Stored()
    assert read_answer(answer(416, range="bytes=0-4"), 0, 9) == Stored([(0, 5)])
    with pytest.raises(Refused, match="no sense"):
        read_answer(answer(308, range="bytes=5"), 0, 0)


@pytest.mark.parametrize(
    ("status", "query", "at_0", "later"),
    [
        (400, Refused, Refused, Gone),
        (401, Refused, Refused, Refused),
        (403, Refused, Refused, Refused),
        (404, Gone, Refused, Gone),
        (409, Refused, Gone, Gone),
        (410, Gone, Refused, Gone),
        (412, Refused, Refused, Refused),
        (413, Refused, Refused, Refused),
        (415, Refused, Refused, Refused),
        (429, Again, Again, Again),
        (501, Refused, Refused, Refused),
        (503, Again, Again, Again),
        (307, Refused, Refused, Refused),
    ],
)
def test_what_a_no_means(status: int, query: type[Exception], at_0: type[Exception], later: type[Exception]) -> None:
    for first, error in ((None, query), (0, at_0), (7, later)):
        with pytest.raises(error):
            read_answer(answer(status), 0, first)


def test_details() -> None:
    """One line, of what the server says, and no control character of it."""
    with pytest.raises(Refused) as problem:
        read_answer(answer(413, b'{"title": "x", "detail": "too\\n\\u001b[31m large"}'), 0, 0)
    assert problem.value.detail == "413: too [31m large"
    with pytest.raises(Refused) as page:
        read_answer(answer(403, b"<html>", content_type="text/html"), 0, 0)
    assert page.value.detail == "403"
    with pytest.raises(Again) as busy:
        read_answer(answer(503, b"x" * 10_000, retry_after="7"), 0, 0)
    assert len(busy.value.detail) < 320
    assert busy.value.retry_after == 7


def test_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a b%é.bin").touch()
    Path("folder/inner/deep").mkdir(parents=True)
    Path("folder/one").touch()
    Path("folder/inner/deep/two").touch()
    Path("folder/link").symlink_to("one")
    Path("folder/round").symlink_to(".")
    Path("named").symlink_to("folder")

    def found(*files: str, url: str) -> list[str]:
        return [one.url for one in targets(files, url)]

    name = "a b%é.bin"
    for url in ("http://h/", "http://h", "http://h/upload/"):
        assert found(name, url=url) == ["http://h/upload/a%20b%25%C3%A9.bin"]
    assert found(name, url="http://h/upload/x?token=1") == ["http://h/upload/x?token=1"]
    assert found(name, url="http://h/upload/x/?token=1") == ["http://h/upload/x/a%20b%25%C3%A9.bin?token=1"]
    inside = ["inner/deep/two", "link", "one"]
    assert found("folder", url="http://h/") == [f"http://h/upload/folder/{one}" for one in inside]
    assert found("folder/", url="http://h/up/") == [f"http://h/up/folder/{one}" for one in inside]
    assert found("named", url="http://h/") == [f"http://h/upload/named/{one}" for one in inside]
    assert found("-", url="http://h/upload/x") == ["http://h/upload/x"]
    os.chdir("folder/inner")
    assert found(".", url="http://h/") == ["http://h/upload/inner/deep/two"]
    os.chdir(tmp_path)
    Path("folder/inner/one").touch()
    for files, url in [
        (("folder/one", "folder/inner/one"), "http://h/"),
        ((name, name), "http://h/"),
        (("folder", "named", "folder/"), "http://h/"),
        ((name, "folder"), "http://h/upload/x"),
        (("folder",), "http://h/upload/x"),
        (("-",), "http://h/"),
        (("missing",), "http://h/"),
    ]:
        with pytest.raises(Failed):
            found(*files, url=url)


def test_a_folder_of_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = sys.getrecursionlimit() + 100
    for _ in range(depth):
        os.mkdir("a")
        os.chdir("a")
    Path("file").touch()
    deepest = os.open(".", os.O_RDONLY)
    os.chdir(tmp_path)
    found = [one.file for one in targets(["a"], "http://h/")]
    # What clears temporary folders away is recursive.
    os.fchdir(deepest)
    os.close(deepest)
    os.unlink("file")
    for _ in range(depth):
        os.chdir("..")
        os.rmdir("a")
    assert found == ["a/" * depth + "file"]


def test_wrong_use_cannot_control_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file is called."""
    monkeypatch.chdir(tmp_path)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "\x1b[2J").touch()
    said = CliRunner().invoke(put, ["a/\x1b[2J", "b/\x1b[2J", "http://h/"])
    assert said.exit_code == 2
    assert "would have the same name" in said.output
    assert "\x1b" not in said.output


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Failed, match="closed"):
        stdin()


@pytest.mark.parametrize("stored", ["[[1e400, 2]]", "[[5, 2]]", "[[-5, 2]]", "[[NaN, 1]]", "[1]", '["ab"]', "{}", "7"])
@pytest_twisted.ensureDeferred
async def test_ranges_that_make_no_sense(stored: str) -> None:
    """What the header has said counts on."""
    header = "bytes=" + ",".join(f"{first}-{first}" for first in range(0, 1000, 2))
    answers = {b"PUT": answer(308, range=header), b"GET": answer(200, f'{{"stored": {stored}}}'.encode())}

    class Said:
        async def request(self, method: bytes, *_: object) -> Answer:
            return answers[method]

    talk = Conversation(cast(Any, Said()), Clock(), "http://h/x", Headers(), Tracker(1000, None), None)
    outcome = await talk.ask(swarm=True)
    assert isinstance(outcome, Stored)
    assert outcome.ranges == [(first, first + 1) for first in range(0, 1000, 2)]


def test_a_link_that_leads_nowhere_is_left_to_whoever_opens_it(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").touch()
    found = [os.path.basename(one.file) for one in targets([str(tmp_path)], "http://h/")]
    assert found == ["circle", "file"]


def test_what_is_sent() -> None:
    """A user and a password become a header; nothing that the protocol says itself, or that breaks out, is taken."""
    url, sent = prepare("https://al%40ice:pass@h:81/upload/x?a=b", {"X-A": "1"})
    assert (url, sent.getRawHeaders("x-a")) == ("https://h:81/upload/x?a=b", ["1"])
    assert sent.getRawHeaders("authorization") == ["Basic YWxAaWNlOnBhc3M="]
    for name, value in [("Content-Range", "x"), ("Transfer-Encoding", "x"), ("A B", "x"), ("A", "b\r\nC: d")]:
        with pytest.raises(Failed):
            prepare("http://h/x", {name: value})
    for bad in ("ftp://h/x", "http://", "/x", "http://h:0/", "http://h:x/", "http://h/a b", "http://h/é", "http://h/#"):
        with pytest.raises(Failed):
            prepare(bad, {})


def test_no_secret_is_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert without_secrets("https://al:pw@h:8/upload/x?sig=1#f") == "https://h:8/upload/x"
    assert set(Record.__annotations__) == {"url", "file", "size", "mtime_ns", "stored"}
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "resumable"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", ignored)
        assert default_folder() == Path.home() / ".local/state/resumable"


def test_a_user_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container's that is run by a number nobody has heard of."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 5)
    with pytest.raises(OSError, match="no home"):
        default_folder()


def test_a_lock_that_is_removed_while_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever had it before removes it at any moment."""
    fstat = os.fstat

    def removed_first(fd: int) -> os.stat_result:
        monkeypatch.setattr(os, "fstat", fstat)
        for lock in tmp_path.glob("*.lock"):
            lock.unlink()
        return fstat(fd)

    monkeypatch.setattr(os, "fstat", removed_first)
    claim = Claim(tmp_path, "http://h/x", "/x", Identity(5, 6))
    with pytest.raises(Busy):
        Claim(tmp_path, "http://h/x", "/x", Identity(5, 6))
    claim.release()


@pytest.mark.parametrize("content", ["[" * 60_000, '"a"', "[]", "null", "{", '{"version": 1, "size": {}}', "\x00", ""])
def test_a_record_that_makes_no_sense(tmp_path: Path, content: str) -> None:
    """It is none; and the next one takes its place."""
    identity = Identity(5, 6)
    claim = Claim(tmp_path, "http://h/x", "/x", identity)
    claim.save(3)
    claim.release()
    (record,) = tmp_path.glob("*.json")
    record.write_text(content)
    claim = Claim(tmp_path, "http://h/x", "/x", identity)
    assert claim.record is None
    claim.save(4)
    claim.release()
    again = Claim(tmp_path, "http://h/x", "/x", identity)
    assert again.record is not None
    assert again.record.stored == 4
    again.release()


def test_options() -> None:
    for text, bytes_a_second in [("500k", 512_000), ("2M", 2 * 2**20), ("1000", 1000), ("1.5K", 1536), ("1G", 2**30)]:
        assert rate(CONTEXT, PARAM, text) == bytes_a_second
    for text, seconds in [("10m", 600), ("30s", 30), ("1d", 86_400), ("2.5h", 9000), ("7", 7), ("500ms", 0.5)]:
        assert patience(CONTEXT, PARAM, text) == seconds
    assert headers(CONTEXT, PARAM, ("A: b: c", "D:")) == {"A": "b: c", "D": ""}
    for text in ("", "0", "x", "-1k", "2Q", "1e9"):
        with pytest.raises(click.BadParameter):
            rate(CONTEXT, PARAM, text)
    for text in ("", "x", "-1s", "1y"):
        with pytest.raises(click.BadParameter):
            patience(CONTEXT, PARAM, text)
    with pytest.raises(click.BadParameter) as caught:
        headers(CONTEXT, PARAM, ("Bearer secret",))
    assert "secret" not in str(caught.value)
