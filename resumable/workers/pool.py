"""The parent: binds the sockets, starts the workers, and starts again those that die."""

from __future__ import annotations

import os
import sys
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from resumable.backoff import Backoff
from resumable.clock import cancel_if_active, run_on_monotonic_time
from resumable.ledger.engine import open_engine, prepare
from resumable.listening import CannotListen, announce, announce_operations, tell_manager
from resumable.service import CannotStart, give_up
from resumable.settings import Settings
from resumable.workers.aggregator import MetricsAggregator
from resumable.workers.figures import Snapshot
from resumable.workers.loads import ABSENT, Loads, shared_file
from resumable.workers.messages import LOADS, Job
from resumable.workers.process import Process
from resumable.workers.sockets import bind

#: Seconds beyond ``limits.drain_delay`` and ``limits.drain`` after which a worker that was told to end is killed.
GRACE = 10.0
#: The pauses before a worker that died early is started again.
PAUSES = Backoff(0.5, 30.0)
#: A worker that has lived for so long (seconds) is started again at once.
SOUND = 60.0


class WorkerPool(Service):
    """The workers of one machine."""

    _log = Logger()

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._ports: list[Any] = []
        self._slots: list[Slot] = []
        self.aggregator = MetricsAggregator(reactor)
        self._starting: Deferred[None] | None = None
        self._served = False
        self._failed = False

    def startService(self) -> None:
        """Begin to start; an error ends the process with exit status 1 (called by Twisted)."""
        super().startService()
        self._starting = ensureDeferred(self._start())
        self._starting.addErrback(give_up, self._reactor)

    async def _start(self) -> None:
        for description in self._endpoints:
            try:
                self._ports.append(await bind(self._reactor, description))
            except CannotListen as error:
                raise CannotStart(str(error)) from error
        memory = shared_file(self._settings.workers)
        loads = Loads(memory)
        for number in range(1, self._settings.workers + 1):
            slot = Slot(self, number, loads, [memory, *(port.fileno() for port in self._ports)])
            self._slots.append(slot)
            slot.start()

    @property
    def _endpoints(self) -> tuple[str, ...]:
        """What is listened on, in the order in which workers do."""
        return (*self._settings.listen, *self._settings.operations.listen)

    def job(self, number: int) -> Job:
        """Return what the worker is to do."""
        return Job(number, self._settings, tuple(port.socket.family for port in self._ports))

    def tell_all(self, asker: Process) -> None:
        """Send a worker the figures of all."""
        living = {slot.number: slot.process for slot in self._slots if slot.takes and slot.process is not None}
        self.aggregator.ask(living, asker.answer)

    @property
    def reactor(self) -> Any:
        """The reactor that all of this runs on."""
        return self._reactor

    def ready(self) -> None:
        """Note that a worker takes connections; announce the service if it is the first."""
        if not self._served:
            self._served = True
            for number, (description, port) in enumerate(zip(self._endpoints, self._ports, strict=True)):
                tell = announce if number < len(self._settings.listen) else announce_operations
                tell(description, port)
            tell_manager("READY=1")

    def ended(self, status: int | None) -> bool:
        """Note that a worker has ended by itself; return whether it is to be started again.

        Where no worker has ever taken connections and one ends because it cannot start, the whole service cannot start.
        """
        if not self._served and status == 1 and not self._failed:
            self._failed = True
            give_up(Failure(CannotStart("the workers do not start; the reason is logged above")), self._reactor)
        return not self._failed

    def stopService(self) -> Deferred[None]:
        """End all workers in order (called by Twisted); fires when none is left."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        tell_manager("STOPPING=1")
        if self._starting is not None:
            self._starting.cancel()
        limits = self._settings.limits
        ending = [slot.end(limits.drain_delay + limits.drain + GRACE) for slot in self._slots]
        # The workers go on listening for so long, and a socket in the file system has to stay until they stop.
        await DeferredList(
            [DeferredList(ending), deferLater(self._reactor, limits.drain_delay)], fireOnOneCallback=True
        )
        for port in self._ports:
            await _stop_listening(port)
        await DeferredList(ending)


class Slot:
    """One of the workers: a process, and after its death the next one.

    :ivar takes: whether the process takes connections.
    """

    _log = Logger()

    def __init__(self, pool: WorkerPool, number: int, loads: Loads, files: list[int]) -> None:
        """
        :param files: the descriptors that the process inherits: the memory of the loads, and the sockets.
        """
        self._pool = pool
        self.number = number
        self._loads = loads
        self._files = files
        self.process: Process | None = None
        self.takes = False
        self._begun = 0.0
        #: How many processes have died early, one after the other.
        self._early_deaths = 0
        self._again: Any = None
        self._ending: Deferred[None] | None = None

    def start(self) -> None:
        """Start a process."""
        self._again = None
        self._begun = self._pool.reactor.seconds()
        self.process = Process(self._pool.job(self.number), self)
        command = [sys.executable, "-m", "resumable.workers.child", f"worker-{self.number}"]
        # The child has to find the same modules, wherever this process has them from.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Only this process talks to the service manager, and the child gets its sockets under other numbers.
        for name in ("NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            environment.pop(name, None)
        files = dict(enumerate(self._files, LOADS))
        self._pool.reactor.spawnProcess(
            self.process, command[0], command, environment, childFDs={0: "w", 1: "r", 2: "r", 3: "r", **files}
        )

    def ready(self) -> None:
        """Note that the process takes connections."""
        self.takes = True
        self._pool.aggregator.workers.inc()
        self._pool.ready()

    def counted(self, figures: Snapshot) -> None:
        """Pass on the figures that the process has sent."""
        self._pool.aggregator.counted(self.number, figures)

    def asked(self) -> None:
        """Have the figures of all sent to the process, which needs them."""
        if self.process is not None:
            self._pool.tell_all(self.process)

    def ended(self, status: int | None, how: str) -> None:
        """Note that the process has ended, and start the next one if nobody wanted the end."""
        self.process = None
        self._loads.set(self.number, ABSENT, self._pool.reactor.seconds())
        if self.takes:
            self.takes = False
            self._pool.aggregator.workers.dec()
        self._pool.aggregator.died(self.number)
        if self._ending is not None:
            self._ending.callback(None)
            return
        self._pool.aggregator.deaths.inc()
        # With exit status 0 somebody may have wanted it, by a signal to this process alone.
        level = LogLevel.warn if status == 0 else LogLevel.error
        self._log.emit(level, "worker {worker} has ended: {how}", worker=self.number, how=how)
        if self._pool.ended(status):
            sound = self._pool.reactor.seconds() - self._begun >= SOUND
            self._early_deaths = 0 if sound else self._early_deaths + 1
            pause = PAUSES.pause(self._early_deaths) if self._early_deaths else 0.0
            self._again = self._pool.reactor.callLater(pause, self.start)

    def end(self, patience: float) -> Deferred[None]:
        """Tell the process to end, and kill it if it still runs after `patience` seconds; fires when it is gone."""
        if self._ending is None:
            self._ending = Deferred()
            cancel_if_active(self._again)
            if self.process is None:
                self._ending.callback(None)
            else:
                self.process.stop()
                kill = self._pool.reactor.callLater(patience, self._kill, patience)
                self._ending.addCallback(lambda _: cancel_if_active(kill))
        return self._ending

    def _kill(self, patience: float) -> None:
        if self.process is not None:
            self._log.error(
                "worker {worker} has not ended after {patience:g} s: killed", worker=self.number, patience=patience
            )
            self.process.kill()


async def _stop_listening(port: Any) -> None:
    stopping = port.stopListening()
    if stopping is not None:
        await stopping


def make_pool(settings: Settings) -> WorkerPool:
    """Return the workers for `settings`, not started yet.

    The ledger's tables are brought up to date here, once for all workers.

    :raises LedgerError: the ledger cannot be used.
    """
    from twisted.internet import reactor

    run_on_monotonic_time(reactor)
    engine = open_engine(settings.ledger.reveal())
    prepare(engine)
    engine.dispose()
    return WorkerPool(settings, reactor)
