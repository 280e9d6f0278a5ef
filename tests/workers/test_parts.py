"""The parts of the workers, each by itself."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.error import ProcessDone, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure

from resumable.logs import make_observer
from resumable.settings import Settings, parse_settings
from resumable.workers.figures import Snapshot
from resumable.workers.loads import ABSENT, LOOK, STALE, TIMES, WAIT, Loads, Turns, shared_file
from resumable.workers.messages import Job, Lines, Uplink, pack_job, read_job
from resumable.workers.pool import PAUSES, SOUND, WorkerPool
from resumable.workers.process import Process

CONFIG = """
workers: 2
listen: tcp:0:interface=127.0.0.1
store: {bucket: b, access_key: key, secret_key: very-secret}
ledger: sqlite:///l.sqlite3
auth: open
"""


@pytest.fixture
def settings() -> Settings:
    return parse_settings(CONFIG, "test", {})


class Reactor(Clock):
    """A clock that pretends to start processes."""

    def __init__(self) -> None:
        super().__init__()
        self.started: list[Any] = []
        self.stopped = 0

    def spawnProcess(self, protocol: Any, *args: Any, **options: Any) -> None:
        self.started.append(protocol)

    def callWhenRunning(self, what: Any) -> None:
        what()

    def stop(self) -> None:
        self.stopped += 1


@pytest.fixture
def pool(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> tuple[WorkerPool, Reactor]:
    reactor = Reactor()
    monkeypatch.setattr("resumable.workers.pool.bind", _bound)
    monkeypatch.setattr("resumable.workers.pool.announce", lambda *_: None)
    return WorkerPool(evolve(settings, workers=1), reactor), reactor


class _Port:
    class socket:
        family = 2

    def fileno(self) -> int:
        return 0

    def stopListening(self) -> None:
        return None


async def _bound(reactor: Any, description: str) -> _Port:
    return _Port()


class Deaf:
    """Hears nothing."""

    def ready(self) -> None: ...
    def counted(self, figures: Snapshot) -> None: ...
    def asked(self) -> None: ...
    def ended(self, status: int | None, how: str) -> None: ...


def killed() -> Failure:
    return Failure(ProcessTerminated(signal=9))


def test_a_worker_that_dies_at_once_does_not_spin(pool: tuple[WorkerPool, Reactor]) -> None:
    """In an hour of dying at once it is started about as often as the longest pause fits in."""
    workers, reactor = pool
    workers.startService()
    deaths = 0
    while reactor.seconds() < 3600:
        if len(reactor.started) > deaths:
            reactor.started[-1].processEnded(killed())
            deaths += 1
        reactor.advance(0.1)
    assert 3600 / PAUSES.longest < deaths < 3600 / PAUSES.longest + 10


def test_a_worker_that_lived_long_is_started_again_at_once(pool: tuple[WorkerPool, Reactor]) -> None:
    workers, reactor = pool
    workers.startService()
    for _ in range(3):
        count = len(reactor.started)
        reactor.advance(SOUND)
        reactor.started[-1].processEnded(killed())
        reactor.advance(0)
        assert len(reactor.started) == count + 1


def test_a_worker_that_says_it_cannot_start_ends_all(
    pool: tuple[WorkerPool, Reactor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as none has ever come so far; later it may be a trouble that passes."""
    workers, reactor = pool
    monkeypatch.setattr("resumable.service.atexit.register", lambda _: None)
    workers.startService()
    reactor.started[-1].processEnded(Failure(ProcessTerminated(exitCode=1)))
    reactor.advance(PAUSES.longest)
    assert (reactor.stopped, len(reactor.started)) == (1, 1)


def test_a_later_start_that_fails_is_tried_again(pool: tuple[WorkerPool, Reactor]) -> None:
    workers, reactor = pool
    workers.startService()
    workers.ready()
    reactor.started[-1].processEnded(Failure(ProcessTerminated(exitCode=1)))
    reactor.advance(PAUSES.longest)
    assert (reactor.stopped, len(reactor.started)) == (0, 2)


def test_nothing_is_started_while_all_end(pool: tuple[WorkerPool, Reactor]) -> None:
    """Neither one that waits for its next start, nor one that ends as it was told."""
    workers, reactor = pool
    workers.startService()
    reactor.started[-1].processEnded(killed())
    stopped: list[None] = []
    workers.stopService().addCallback(stopped.append)
    reactor.advance(PAUSES.longest)
    assert (stopped, len(reactor.started)) == ([None], 1)


def test_what_a_worker_logs_says_which_it_is(settings: Settings) -> None:
    """The event comes out as it went in, with the worker's number."""
    read, write = os.pipe()
    Uplink(write).log(
        {
            "log_format": "upload {id}\nfinished",
            "id": "a",
            "bytes": 5,
            "odd": object(),
            "log_level": LogLevel.warn,
            "log_namespace": "some.where",
            "log_time": 1.5,
        }
    )
    seen: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(seen.append)
    try:
        Process(Job(2, settings, ()), Deaf()).childDataReceived(3, os.read(read, 65536))
    finally:
        globalLogPublisher.removeObserver(seen.append)
        os.close(read)
        os.close(write)
    (event,) = seen
    assert (event["worker"], event["id"], event["bytes"], event["log_level"]) == (2, "a", 5, LogLevel.warn)
    assert event["log_system"] == "worker 2, some.where#warn"
    assert event["log_time"] == 1.5


def test_a_traceback_comes_through_the_pipe(settings: Settings) -> None:
    """As text and as JSON."""
    read, write = os.pipe()
    try:
        raise ValueError("what went wrong")
    except ValueError:
        Uplink(write).log(
            {
                "log_failure": Failure(),
                "log_level": LogLevel.critical,
                "log_format": "oh",
                "log_time": 1.5,
                "log_namespace": "a",
            }
        )
    written = io.StringIO()
    observers = [make_observer(form, "info", written) for form in ("text", "json")]
    for observer in observers:
        globalLogPublisher.addObserver(observer)
    try:
        Process(Job(2, settings, ()), Deaf()).childDataReceived(3, os.read(read, 65536))
    finally:
        for observer in observers:
            globalLogPublisher.removeObserver(observer)
        os.close(read)
        os.close(write)
    *text, last = written.getvalue().splitlines()
    assert "[worker 2, a#critical] oh" in text[0]
    assert "ValueError: what went wrong" in text[-1]
    assert (json.loads(last)["worker"], "what went wrong" in json.loads(last)["traceback"]) == (2, True)


def test_what_is_said_to_a_parent_that_is_gone_is_said_to_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    Uplink(write).say(b"ready")
    os.close(write)


def test_the_job_goes_through_a_pipe_and_leaves_what_follows(settings: Settings) -> None:
    """With the secrets in it, which no text of it shows."""
    job = Job(1, settings, (2, 1))
    read, write = os.pipe()
    os.write(write, pack_job(job) + b"stop\n")
    with open(read, "rb", buffering=0) as pipe:
        assert read_job(pipe) == job
        os.close(write)
        assert pipe.read() == b"stop\n"
    assert "very-secret" not in repr(job)


@pytest.mark.parametrize("part", [0, 3, 20])
def test_a_parent_that_dies_before_it_has_said_what_to_do(settings: Settings, part: int) -> None:
    read, write = os.pipe()
    os.write(write, pack_job(Job(1, settings, ()))[:part])
    os.close(write)
    with open(read, "rb", buffering=0) as pipe:
        assert read_job(pipe) is None


def test_lines() -> None:
    lines = Lines()
    assert lines.feed(b"a\nb") == [b"a"]
    assert lines.feed(b"c\n\nd") == [b"bc", b""]
    assert (lines.rest(), lines.rest()) == ([b"d"], [])


class Port:
    """A listening port that takes one connection each time it is read."""

    connected = True
    disconnecting = False
    numberAccepts = 100

    def __init__(self) -> None:
        self.reading = True
        self.taken: list[None] = []

    def doRead(self) -> None:
        self.taken += [None] * self.numberAccepts

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


class Side:
    """A worker's side of the turns."""

    def __init__(self, fd: int, number: int, clock: Clock) -> None:
        self.port = Port()
        self.busy = 0
        self.loads = Loads(fd)
        self.turns = Turns(self.loads, number, lambda: self.busy, clock)
        self.turns.rule(self.port, lambda: len(self.port.taken))

    @property
    def took(self) -> int:
        self.port.doRead()
        return len(self.port.taken)


@pytest.fixture
def sides() -> Iterator[tuple[Clock, Side, Side]]:
    clock = Clock()
    fd = shared_file(2)
    yield clock, Side(fd, 1, clock), Side(fd, 2, clock)
    os.close(fd)


def test_one_connection_at_a_time(sides: tuple[Clock, Side, Side]) -> None:
    """The second is for the other, who has less to do now."""
    _, one, two = sides
    assert (one.took, one.took, one.port.reading) == (1, 1, False)
    assert (two.took, two.took, two.took) == (1, 2, 2)


def test_nobody_waits_long_for_one_that_is_busy(sides: tuple[Clock, Side, Side]) -> None:
    clock, one, _ = sides
    assert one.took == 1
    for _ in range(TIMES):
        assert one.took == 1
        clock.advance(WAIT)
        assert one.port.reading
    assert one.took == 2


def test_nobody_waits_for_one_that_hangs(sides: tuple[Clock, Side, Side]) -> None:
    """It has not looked for some time at how much it has to do."""
    clock, one, two = sides
    two.turns._loop.stop()
    one.busy = 1
    clock.advance(LOOK)
    assert one.took == 0
    clock.pump([LOOK] * int(STALE / LOOK))
    assert (one.took, one.took) == (1, 2)


def test_of_many_one_more_or_less_is_not_waited_for(sides: tuple[Clock, Side, Side]) -> None:
    """An eighth may be too many."""
    clock, one, two = sides
    one.busy, two.busy = 17, 16
    clock.advance(LOOK)
    assert (one.took, one.took, one.took) == (1, 2, 2)
    assert two.took == 1


def test_nobody_waits_for_one_that_does_not_listen(sides: tuple[Clock, Side, Side]) -> None:
    clock, one, two = sides
    two.port.connected = False
    clock.advance(LOOK)
    assert one.loads.of(2) == ABSENT
    assert (one.took, one.took, one.took) == (1, 2, 3)


def test_what_has_ended_counts_no_more(sides: tuple[Clock, Side, Side]) -> None:
    clock, one, two = sides
    assert (one.took, two.took) == (1, 1)
    one.busy, two.busy = 0, 1
    clock.advance(LOOK)
    assert (two.took, one.took) == (1, 2)


def test_a_port_closed_meanwhile_is_not_read(sides: tuple[Clock, Side, Side]) -> None:
    clock, one, _ = sides
    assert (one.took, one.took) == (1, 1)
    one.port.connected = False
    clock.advance(WAIT)
    assert not one.port.reading


@pytest.mark.parametrize("reason", [killed(), Failure(ProcessDone(0))])
def test_a_worker_that_ends_by_itself_is_started_again(pool: tuple[WorkerPool, Reactor], reason: Failure) -> None:
    """Whatever its reason, a clean end among them: somebody may have sent it a signal."""
    workers, reactor = pool
    workers.startService()
    reactor.started[-1].processEnded(reason)
    reactor.advance(PAUSES.longest)
    assert len(reactor.started) == 2
