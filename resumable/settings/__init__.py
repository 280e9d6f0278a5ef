"""The configuration file, read into frozen values; every problem in it is named with its place.

What the keys are stands in `schema`, how one value is written in `values`, how a file becomes a tree in `source`, and
how a tree becomes settings in `reader`. Adding a key is adding its line to `schema` (and to ``config/app.yaml``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from resumable.settings.reader import Problems, SettingsError, read_section
from resumable.settings.schema import (
    AuthSettings,
    CleanupSettings,
    EventSettings,
    LimitSettings,
    LogSettings,
    ObjectSettings,
    Settings,
    StoreSettings,
)
from resumable.settings.secrets import Secret, SecretUrl
from resumable.settings.source import BadYaml, expand, parse_yaml
from resumable.settings.values import parse_duration, parse_endpoint, parse_size

__all__ = [
    "AuthSettings",
    "CleanupSettings",
    "EventSettings",
    "LimitSettings",
    "LogSettings",
    "ObjectSettings",
    "Secret",
    "SecretUrl",
    "Settings",
    "SettingsError",
    "StoreSettings",
    "embedded_settings",
    "load_settings",
    "parse_duration",
    "parse_endpoint",
    "parse_settings",
    "parse_size",
]

#: What runs when nothing is configured: reachable from this machine only, and nothing of it outlives the process.
EMBEDDED = """
listen: tcp:8080:interface=127.0.0.1
store: {kind: embedded, bucket: uploads}
ledger: "sqlite://"
auth: open
cors: {origins: ["*"]}
"""


def load_settings(path: str | os.PathLike[str], environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in the YAML file at `path`.

    :param environ: where ``${NAME}`` comes from; the process's own environment by default.

    :raises SettingsError: with every problem there is, also when the file cannot be read.
    """
    source = os.fspath(path)
    try:
        # utf-8-sig, since some editors put a byte order mark in front.
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        raise SettingsError([f"{source}: no such file"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{source}: is not UTF-8 text"]) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError([f"{source}: cannot be read: {reason}"]) from None
    return parse_settings(text, source, os.environ if environ is None else environ)


def parse_settings(text: str, source: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings in the YAML `text`; `source` is what problems call it.

    :raises SettingsError: with every problem there is.
    """
    problems = Problems(source)
    try:
        tree = parse_yaml(text, problems.add)
    except BadYaml as error:
        raise SettingsError([f"{source}: {error}"]) from None
    tree = expand(tree, environ, problems.add)
    settings = read_section(Settings, tree, "", problems)
    problems.raise_if_any()
    assert settings is not None, "a section that cannot be read reports a problem"
    return settings


def embedded_settings() -> Settings:
    """Return the settings that apply without a configuration file."""
    return parse_settings(EMBEDDED, "built-in configuration", {})
