"""How the options of ``resumable put`` are written. Pure."""

from __future__ import annotations

import re

import click

_RATE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)([kmgtp]?)(?:i?b)?", re.ASCII | re.IGNORECASE)
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d|)", re.ASCII)
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Powers of 1024, as curl has them.
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def rate(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return bytes a second, of ``500k``, ``2M`` or a plain number (a callback of click's options)."""
    if value is None:
        return None
    found = _RATE.fullmatch(value)
    amount = 0.0 if found is None else float(found[1]) * 1024.0 ** _POWER[found[2].lower()]
    if amount < 1:
        raise click.BadParameter("must be bytes a second such as 500k, 2M or 1000000")
    return amount


def patience(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return seconds, of ``30s``, ``10m``, ``2h``, ``1d`` or a plain number (a callback of click's options)."""
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter("must be a duration such as 30s, 10m, 2h, 1d or a plain number of seconds")
    return float(found[1]) * _SECONDS[found[2]]


def headers(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Return headers by name, of ``Name: value`` (a callback of click's options). A message never shows a value."""
    found = {}
    for value in values:
        name, colon, content = value.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter("must be of the form 'Name: value'")
        found[name.strip()] = content.strip()
    return found
