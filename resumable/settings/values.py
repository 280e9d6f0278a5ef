"""How single values are written: sizes, durations, URLs, secrets and the like.

A parser takes what YAML gave (or the text an environment variable held) and returns the value, or raises ValueError
saying what is accepted. What it says never holds the value itself, which might be a secret that slipped into the wrong
key. Parsers of several values raise `Faults`, which names the places.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy.exc import ArgumentError
from twisted.internet.endpoints import serverFromString

from resumable.database_url import read_database_url
from resumable.settings.secrets import Secret, SecretUrl
from resumable.wire_url import wire_url

T = TypeVar("T")

_BINARY = {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
SIZE_UNITS: dict[str, float] = {**_BINARY, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
DURATION_UNITS: dict[str, float] = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
MIB = 2**20
GIB = 2**30
TIB = 2**40

WEB_URL = "must be a URL such as https://example.com/path"
_AMOUNT = re.compile(r"(\d{1,18})(\.\d{1,18})?\s*([A-Za-z]*)", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Kinds of endpoints that Twisted itself has.
_OF_TWISTED = frozenset({"tcp", "tcp4", "tcp6", "ssl", "unix", "systemd"})
_TCP_PORT = re.compile(r"(?:tcp[46]?|ssl):(?:port=)?(-?\d+)")
#: What belongs to one connection, what asks for less than the whole answer, and what is said by us.
_NOT_FORWARDED = re.compile(
    "host|connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade|expect|content-length"
    "|content-encoding|accept-encoding|range|if-.*|x-forwarded-for|x-original-.*|x-upload-.*"
)
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Faults(ValueError):
    """Problems inside one value: pairs of the place in it (``[2]``, ``.name``) and what is wrong there."""

    def __init__(self, faults: list[tuple[str, str]]) -> None:
        super().__init__(faults)
        self.faults = faults


def parse_size(value: object) -> int:
    """Read bytes from ``6MiB``, ``5GB`` or a plain number.

    :raises ValueError: saying what is accepted.
    """
    amount = _amount(value, SIZE_UNITS, fraction=False)
    if amount is None:
        raise ValueError("must be a size such as 6MiB, 5GB or a plain number of bytes")
    return int(amount)


def parse_duration(value: object) -> float:
    """Read seconds from ``500ms``, ``30s``, ``5m``, ``2h``, ``7d`` or a plain number.

    :raises ValueError: saying what is accepted.
    """
    amount = _amount(value, DURATION_UNITS, fraction=True)
    if amount is None:
        raise ValueError("must be a duration such as 500ms, 30s, 5m, 2h, 7d or a plain number of seconds")
    return float(amount)


def _amount(value: object, units: Mapping[str, float], *, fraction: bool) -> float | None:
    """`value` in the base unit, or None where it is not an amount; `fraction` allows parts of the base unit."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    match = _AMOUNT.fullmatch(str(value).strip())
    if match is None:
        return None
    number, point, unit = match[1], match[2], match[3].lower()
    if unit and unit not in units:
        return None
    if point and not unit and not fraction:
        return None
    # Whole numbers stay whole, as floats would round those above 2**53.
    return (float(number + point) if point else int(number)) * units.get(unit, 1)


def parse_endpoint(value: object) -> str:
    """Check a Twisted endpoint description to listen on, such as ``tcp:8080``; nothing is opened.

    :raises ValueError: saying what Twisted says of it.
    """
    description = text(value)
    port = _TCP_PORT.match(description)
    if port is not None and not 0 <= int(port[1]) <= 65535:
        raise ValueError("the port must be from 0 to 65535")
    try:
        serverFromString(_reactor_for(description), description)
    except LookupError:
        # A socket from systemd is there only when systemd starts us, and a look at the file comes without it.
        if not description.startswith("systemd:"):
            raise ValueError("must be a Twisted endpoint description such as tcp:8080") from None
    except Exception as error:  # each kind of endpoint has errors of its own, TypeError and OSError among them
        reason = " ".join(str(error).split())
        raise ValueError(f"must be a Twisted endpoint description such as tcp:8080 ({reason})") from None
    return description


def _reactor_for(description: str) -> Any:
    """Return what stands for the reactor, which Twisted's own kinds of endpoints do not touch before they listen.

    A kind that somebody else made may do so. What Twisted's tests have for that brings all of Twisted's tests with it.
    """
    if description.partition(":")[0] in _OF_TWISTED:
        return None
    from twisted.internet.testing import MemoryReactorClock

    return MemoryReactorClock()


def text(value: object) -> str:
    """Read a line of text."""
    if not isinstance(value, str):
        raise ValueError("must be text (put it in quotes)")
    if not value:
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must be one line without control characters")
    return value


def secret(value: object) -> Secret:
    """Read a line of text that is never shown."""
    return Secret(text(value))


def webhook_secret(value: object) -> Secret:
    """Read what webhooks are signed with: ``whsec_`` and the base64 of 24 to 64 bytes (Standard Webhooks)."""
    found = text(value)
    try:
        size = len(b64decode(found.removeprefix("whsec_"), validate=True))
    except ValueError:
        size = 0
    if not found.startswith("whsec_") or not 24 <= size <= 64:
        # Its own words stay out of the message.
        raise ValueError("must be whsec_ and the base64 of 24 to 64 bytes")
    return Secret(found)


def boolean(value: object) -> bool:
    """Read true or false, as YAML has them."""
    found = _BOOLEANS.get(value.lower()) if isinstance(value, str) else value
    if not isinstance(found, bool):
        raise ValueError("must be true or false")
    return found


def forwarded_header(value: object) -> str:
    """Read the name of a header that may be forwarded to another server; return it in lower case."""
    name = text(value).lower()
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("must be the name of an HTTP header")
    if _NOT_FORWARDED.fullmatch(name) is not None:
        raise ValueError("cannot be forwarded")
    return name


def web_url(value: object) -> str:
    """Read an http(s) URL with a host, and without a user name or a password."""
    url = text(value)
    try:
        parts = urlsplit(url)
        port_is_fine = parts.port != 0
    except ValueError:
        raise ValueError(WEB_URL) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine or " " in url:
        raise ValueError(WEB_URL)
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or a password")
    if parts.fragment:
        raise ValueError("must not hold a #fragment")
    return url


def called_url(value: object) -> str:
    """Read a `web_url` that the service itself calls: its host has a name that can be looked up."""
    url = web_url(value)
    try:
        wire_url(url)
    except ValueError:
        raise ValueError(f"{WEB_URL}; no host can have this name") from None
    return url


def without_query(url: str) -> str:
    """Return how a URL is shown whose query may hold a token."""
    return repr(urlsplit(url)._replace(query="").geturl())


def base_url(value: object) -> str:
    """Read a `web_url` that paths are appended to: it has no query, and its final slash is removed."""
    url = web_url(value)
    if "?" in url:
        raise ValueError("must not hold a ?query")
    return url.rstrip("/")


def origin(value: object) -> str:
    """Read an origin, ``*``, or a pattern whose first label is ``*``, in the form in which browsers send origins."""
    written = text(value)
    if written == "*":
        return written
    parts = urlsplit(written)
    wrong = parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme not in ("http", "https") or not parts.netloc or wrong:
        raise ValueError("must be an origin such as https://app.example.com, https://*.example.com, or *")
    host = parts.netloc.lower()
    if "*" in host and (not host.startswith("*.") or "*" in host[1:]):
        raise ValueError("may have a * as its first label alone: https://*.example.com")
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{host.removesuffix(default)}"


def proxy(value: object) -> str:
    """Read a network, an address, or ``unix``, which stands for whoever connects to a Unix socket."""
    network = text(value)
    if network != "unix":
        try:
            return str(ip_network(network))
        except ValueError:
            raise ValueError("must be a network such as 10.0.0.0/8, an address, or unix") from None
    return network


def ledger_url(value: object) -> SecretUrl:
    """Read where the ledger is: ``sqlite:///FILE`` or ``postgresql://USER@HOST/DB``."""
    url = text(value)
    try:
        known = read_database_url(url).get_backend_name() in ("sqlite", "postgresql")
    except (ArgumentError, ValueError):
        known = False
    if not known:
        raise ValueError("must be sqlite:///FILE or postgresql://USER@HOST/DB")
    return SecretUrl(url)


def in_memory(ledger: SecretUrl) -> bool:
    """Say whether the ledger is a SQLite database that only one process can see."""
    url = read_database_url(ledger.reveal())
    return url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")


def key_template(value: object) -> str:
    """Read the template of object keys: text with {name}, {owner}, {id} and {date} in it."""
    template = text(value)
    if re.search(r"[{}]", re.sub(r"\{(?:name|owner|id|date)\}", "", template)):
        raise ValueError("may hold only {name}, {owner}, {id} and {date} in braces")
    if "{name}" not in template and "{id}" not in template:
        raise ValueError("must hold {name} or {id}, or all uploads get the same key")
    if any(segment.strip() in ("", ".", "..") for segment in template.split("/")):
        raise ValueError("must not make empty segments (a slash at an end, or //), or segments that are . or ..")
    return template


def folder(value: object) -> str:
    """Read a prefix of object keys that ends with a slash."""
    prefix = text(value)
    if not prefix.endswith("/"):
        raise ValueError("must end with /")
    return prefix


def whole(least: int, most: int) -> Callable[[object], int]:
    """Make a parser of a whole number from `least` to `most`, both inclusive."""

    def parse(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value, re.ASCII) else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return number

    return parse


def size(least: str, most: str | None = None) -> Callable[[object], int]:
    """Make a parser of a size from `least` to `most`, both inclusive and as people write them (``5MiB``)."""
    return _between(parse_size, least, most)


def duration(least: str, most: str | None = None) -> Callable[[object], float]:
    """Make a parser of a duration from `least` to `most`, both inclusive and as people write them (``30s``)."""
    return _between(parse_duration, least, most)


def _between(parse: Callable[[object], T], least: str, most: str | None) -> Callable[[object], T]:
    def bounded(value: object) -> T:
        amount = parse(value)
        if amount < parse(least):  # type: ignore[operator]  # T is int or float
            raise ValueError(f"must be at least {least}")
        if most is not None and amount > parse(most):  # type: ignore[operator]
            raise ValueError(f"must be at most {most}")
        return amount

    return bounded


def choice(*words: str) -> Callable[[object], str]:
    """Make a parser of one of `words`."""

    def parse(value: object) -> str:
        if value not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return str(value)

    return parse


def off_or(*words: str) -> Callable[[object], str]:
    """Make a parser of ``off`` or one of `words`. To YAML a plain ``off`` is a boolean."""
    parse = choice("off", *words)
    return lambda value: "off" if value is False else parse(value)


def listed(parse: Callable[[object], T], *, least: int = 0) -> Callable[[object], tuple[T, ...]]:
    """Make a parser of one value or a list of at least `least` values."""

    def parse_all(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            return (parse(value),)
        found, faults = [], []
        for index, item in enumerate(value):
            try:
                found.append(parse(item))
            except ValueError as error:
                faults.append((f"[{index}]", str(error)))
        if faults:
            raise Faults(faults)
        if len(found) < least:
            raise ValueError(f"must name at least {least}")
        return tuple(found)

    return parse_all


def table(value: object) -> dict[str, str]:
    """Read names and texts."""
    if not isinstance(value, dict):
        raise ValueError("must be names and texts, such as {team: video}")
    found, faults = {}, []
    for name, item in value.items():
        try:
            found[text(name)] = "" if item == "" else text(item)
        except ValueError as error:
            faults.append((f".{name}", str(error)))
    if faults:
        raise Faults(faults)
    return found
