"""What all commands share: options, examples, and turning errors into lines on standard error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click
from sqlalchemy.exc import DBAPIError

from resumable.commands.cli_text import Failed, examples, one_line
from resumable.ledger.engine import LedgerError
from resumable.model import UploadError
from resumable.settings import Settings, SettingsError, load_settings, parse_duration
from resumable.stores.port import StoreError

__all__ = ["Failed", "config_option", "duration", "examples", "guarded", "json_option", "one_line", "read_settings"]

NO_CONFIG = (
    "Missing option '--config' / '-c': name the configuration of the service, or set RESUMABLE_CONFIG. A service that runs "
    "without one (twistd -n resumable) keeps its ledger in memory, where no command can look: ask it over HTTP, as "
    "curl http://127.0.0.1:8080/upload/NAME or curl http://127.0.0.1:8080/metrics."
)

F = TypeVar("F", bound=Callable[..., Any])


class ConfigOption(click.Option):
    """The option ``--config``, which says more than click where it is missing."""

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value (called by click).

        :raises click.UsageError: there is none.
        """
        try:
            return super().process_value(ctx, value)
        except click.MissingParameter:
            raise click.UsageError(NO_CONFIG, ctx) from None


def config_option(command: F) -> F:
    """Add the option ``--config FILE``, passed as `config`."""
    return click.option(
        "--config",
        "-c",
        cls=ConfigOption,
        required=True,
        envvar="RESUMABLE_CONFIG",
        show_envvar=True,
        metavar="FILE",
        help="The service's configuration, a YAML file.",
    )(command)


def json_option(command: F) -> F:
    """Add the option ``--json``, passed as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON for programs: exact bytes, RFC 3339 times.")(
        command
    )


def duration(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a duration, written as in the configuration (a callback of click's options)."""
    try:
        return None if value is None else parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def guarded(command: F) -> F:
    """Make foreseen errors end the command with one line, and without a traceback."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except LedgerError as error:
            raise Failed(f"ledger: {one_line(str(error))}") from None
        except DBAPIError as error:
            raise Failed(f"ledger: {one_line(str(error.orig))}") from None
        except StoreError as error:
            raise Failed(f"store: {one_line(str(error))}") from None
        except (UploadError, TimeoutError) as error:
            raise Failed(one_line(str(error))) from None

    return run  # type: ignore[return-value]


def read_settings(config: str) -> Settings:
    """Return the settings in the file.

    :raises Failed: the file cannot be used; there is a line for each problem.
    """
    try:
        return load_settings(config)
    except SettingsError as error:
        raise Failed(*error.problems) from None
