"""``twistd resumable``: from the command line to the service."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from functools import partial
from typing import IO, Any, ClassVar, NoReturn, cast

from attrs import evolve
from twisted.application.service import IService
from twisted.logger import ILogObserver
from twisted.python.logfile import LogFile
from twisted.python.usage import Options as UsageOptions

from resumable.clock import run_on_monotonic_time
from resumable.log_output import LogOutput, may_block
from resumable.logs import dropped_line, make_observer
from resumable.malloc import collector_at_rest
from resumable.settings import Settings, SettingsError, embedded_settings, load_settings
from resumable.signals import mind_signals


class Options(UsageOptions):
    """The options of ``twistd resumable``."""

    synopsis = "[--config FILE] [--listen ENDPOINT ...]"
    longdesc = (
        "Takes uploads that may break off at any byte, lets them go on where they stopped, and streams them straight "
        "into S3."
    )
    examples = """Examples:
  twistd -n resumable
      try it: an S3 in a child process, nothing to configure, nothing is kept
  twistd -n resumable --config config/app.yaml
      the real thing
  twistd -n resumable --config config/app.yaml --listen tcp:8081:interface=127.0.0.1
      the same, on another port
"""

    optParameters: ClassVar = [
        ["config", "c", None, "the configuration, a YAML file; without one everything is embedded"]
    ]

    def __init__(self) -> None:
        super().__init__()
        self.listen: list[str] = []
        self.settings: Settings

    def getUsage(self, width: int | None = None) -> str:
        """Return the text of --help; the examples keep their lines."""
        return f"{super().getUsage(width)}\n{self.examples}"

    def opt_listen(self, endpoint: str) -> None:
        """listen on a Twisted endpoint string (tcp:8080, tcp:0:interface=127.0.0.1, unix:/run/up.sock); may be repeated, and wins
        over the configuration
        """
        self.listen.append(endpoint)

    opt_l = opt_listen

    def postOptions(self) -> None:
        """Read the configuration; a faulty one ends the program, with a line for each problem."""
        self.settings = read_settings(self["config"], self.listen)
        parent = self.parent
        if parent is not None and not parent.get("logger") and not parent.get("syslog"):
            # twistd wants the name of a function, and calls it with nothing.
            _chosen.append(self)
            parent["logger"] = "resumable.tap.configured_observer"


_chosen: list[Options] = []


def configured_observer() -> ILogObserver:
    """Return the observer that logs where twistd was told to, in the configured format."""
    options = _chosen[-1]
    assert options.parent is not None
    name, foreground = options.parent.get("logfile"), options.parent.get("nodaemon")
    to_stdout = name == "-" or (foreground and not name)
    log = options.settings.log
    out = standard_output(log.format) if to_stdout else LogFile.fromFullPath(name or "twistd.log")
    return make_observer(log.format, log.level, cast(IO[str], out))


def standard_output(form: str) -> Any:
    """Return standard output for the log; a reader that is slow or absent does not block the service."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    run_on_monotonic_time(reactor)
    try:
        fd = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # there is none
        return sys.stdout
    if not may_block(fd):
        return sys.stdout
    out = LogOutput(
        fd, lambda delay, call: reactor.callFromThread(reactor.callLater, delay, call), partial(dropped_line, form)
    )
    atexit.register(out.finish)
    return out


def read_settings(config: str | None, listen: Sequence[str] = ()) -> Settings:
    """Return the settings of a configuration file, or the embedded default's; `listen` overrides theirs."""
    try:
        settings = embedded_settings() if config is None else load_settings(config)
    except SettingsError as error:
        end(error.problems)
    return evolve(settings, listen=tuple(listen)) if listen else settings


def end(problems: Sequence[str]) -> NoReturn:
    """End the program: a line for each problem, exit status 1."""
    for problem in problems:
        print(problem, file=sys.stderr)
    raise SystemExit(1)


def make_service(settings: Settings) -> IService:
    """Return the service, ready to be started; a ledger that cannot be used ends the program."""
    from twisted.internet import reactor

    run_on_monotonic_time(reactor)
    # The service is imported when it is clear that it will run, and in an eighth less time without the collector, which
    # would find nothing to collect.
    with collector_at_rest():
        from resumable.ledger.engine import LedgerError

        try:
            service = _make_pool(settings) if settings.workers > 1 else _make_one(settings)
        except LedgerError as error:
            end([f"ledger: {error}"])
    mind_signals(reactor)
    return service


def _make_one(settings: Settings) -> IService:
    from resumable.service import make_resumable

    return make_resumable(settings)


def _make_pool(settings: Settings) -> IService:
    from resumable.workers.pool import make_pool

    return make_pool(settings)


def makeService(options: Options) -> IService:
    """Return the service for the options; twistd calls this."""
    return make_service(options.settings)
