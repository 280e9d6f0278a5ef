"""The benchmark itself, with tiny loads: this server and the sink only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from bench import growth
from bench.cli import main
from bench.ledger_rows import fill
from bench.loads import Load
from bench.processes import free_port, listens
from bench.results import read_results
from bench.run import Bench, compare
from bench.servers.catalogue import SERVERS
from bench.servers.resumable import Resumable
from bench.servers.server import Server
from bench.sink.handle import Sink

pytestmark = pytest.mark.process

MIB = 1 << 20
LOADS = [
    Load(name="one", about="", count=1, size=13 * MIB),
    Load(name="small", about="", count=20, size=65536, concurrency=4),
    Load(name="resume", about="", count=1, size=13 * MIB, breaks=2, checked=True),
    Load(name="slow", about="", count=20, size=50_000, rate=50_000, queries=20.0),
]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    sink = Sink(tmp_path)
    yield Bench(sink, tmp_path)
    sink.stop()


@pytest.mark.soak
def test_this_server_is_measured_under_every_kind_of_load(bench: Bench, tmp_path: Path) -> None:
    """Nothing fails, everything that is shown in tables has been measured, and nothing is left behind."""
    one, small, resume, slow = compare([Resumable(bench.sink)], LOADS, 1, bench)
    assert [each.failures for each in (one, small, resume, slow)] == [[], [], [], []]
    assert one.calls == {"CreateMultipartUpload": 1, "UploadPart": 3, "CompleteMultipartUpload": 1}
    assert small.calls == {"PutObject": 20}
    assert (small.uploads, small.size) == (20, 20 * 65536)
    assert resume.calls["UploadPart"] == 3
    # 50,000 bytes at so many a second, but for the first tick's.
    assert slow.seconds >= 0.9
    assert (slow.uploads, len(slow.answers)) == (20, 20)
    assert slow.statuses
    assert one.cpu > 0
    assert one.peak > 20 * MIB
    assert [each.temporary for each in (one, small, resume, slow)] == [0, 0, 0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sink.log", "sink.pem"]


def test_an_object_that_is_not_what_was_sent_is_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is fast because it loses bytes must not look good."""
    monkeypatch.setattr("bench.run.digest", lambda size: f"{size} 0")
    (measured,) = compare(
        [Resumable(bench.sink)], [Load(name="a", about="", count=1, size=MIB, checked=True)], 1, bench
    )
    assert "a-1-0 is not what was sent" in measured.failures[0]


def test_a_server_that_does_not_start_is_told_of_and_passed_over(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured nevertheless."""

    class Broken(Server):
        name, protocol, path, about = "broken", "plain", "/", ""

        def command(self) -> list[str]:
            return ["sh", "-c", "echo no such luck; exit 1"]

    assert list(compare([Broken(bench.sink)], LOADS[:1], 1, bench)) == []
    assert "no such luck" in capsys.readouterr().err


def test_figures_of_a_server_that_has_ended_do_not_count(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """What /proc says of it is less than it has used."""

    class Ending(Resumable):
        @property
        def running(self) -> bool:
            return False

    assert list(compare([Ending(bench.sink)], [Load(name="a", about="", count=1, size=1000)], 1, bench)) == []
    assert "resumable: has ended under the load" in capsys.readouterr().err


@pytest.mark.soak
def test_growth_is_measured_on_a_full_ledger(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The axis with the most machinery of its own: rows are there before the server starts."""
    monkeypatch.setattr(growth, "QUERIES", evolve(growth.QUERIES, size=100_000))
    axis = evolve(growth.AXES["uploads"], load=lambda _: LOADS[1])
    steps = growth.measure(axis, [50], bench)
    assert steps[0].failures == 0
    assert steps[0].status_p50
    assert growth.table(axis, steps).splitlines()[4].startswith("| 50 ")
    assert growth.picture(axis, [*steps, *steps]).startswith("<svg")


def test_a_full_ledger_holds_what_was_asked_for(tmp_path: Path) -> None:
    """Each row an open upload with a part."""
    fill(tmp_path / "ledger.sqlite3", 50)
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        query = "SELECT count(*) FROM uploads JOIN pieces ON upload_id = id WHERE state = 'open'"
        assert connection.execute(query).fetchone() == (50,)


@pytest.mark.soak
def test_the_command_runs_writes_and_prices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same way that the README goes: run, report, price."""
    out = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    run = ["run", "--servers", "resumable", "--rounds", "1", "--scale", "0.005"]
    assert main([*run, "--loads", "small", "one", *out]) == 0
    assert "| resumable |" in capsys.readouterr().out
    (written,) = (tmp_path / "out").glob("*.json")
    assert read_results(written).measurements[0].uploads == 5
    assert main(["report", str(written), "--svg", str(tmp_path / "picture.svg")]) == 0
    assert (tmp_path / "picture.svg").read_text() == written.with_suffix(".svg").read_text()
    assert main(["price", str(written)]) == 0
    assert "| 1 MB, resumable " in capsys.readouterr().out
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--servers", "apache"], "no server 'apache': there are nginx, nginx-1m, resumable"),
        (["run", "--loads", "huge"], "no load 'huge'"),
        (["run", "--rounds", "0"], "--rounds 1 or more"),
        (["growth", "--values", "5"], "say which with --axes"),
        (["price", "--use", "2", "x.json"], "--use is above 0"),
    ],
)
def test_a_wrong_command_says_what_is_wrong(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line, before anything is started."""
    assert main(arguments) == 1
    assert said in capsys.readouterr().err


def test_what_a_server_needs_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Peers are other people's programs: what is not there is skipped, with the way to get it."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    assert "apt install nginx-light" in shown
    assert "go install github.com/tus/tusd/v2/cmd/tusd" in shown
    assert all(name in shown for name in SERVERS)


def test_a_free_port_is_free() -> None:
    """Servers are started on it."""
    assert not listens(free_port())
