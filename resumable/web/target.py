"""Where a request is sent to: its target and its Host (RFC 9112, 3.2 and 3.3). Pure.

Whoever stands in front may have chosen by Host, or by the target, who is to see the request: two that differ, or one that
can be read in two ways, must not be served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

# RFC 3986, 3.2.2 and 3.2.3; no userinfo (RFC 9110, 4.2.4).
_AUTHORITY = rb"(?:\[[0-9A-Fa-fvV:.]{2,64}\]|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2}){0,255})(?::[0-9]{0,5})?"
_HOST = re.compile(_AUTHORITY)
_ABSOLUTE = re.compile(rb"(?i:https?)://(" + _AUTHORITY + rb")((?:/[^#]*)?(?:\?[^#]*)?)")

LARGEST_PORT = 65535


class BadTarget(Exception):
    """The request cannot be served; the message says why."""


def check_host(hosts: Sequence[bytes], *, required: bool) -> None:
    """Refuse a request whose Host fields are not as they have to be.

    :param required: as by HTTP/1.1.
    :raises BadTarget: there is none, more than one, or it is malformed.
    """
    if len(hosts) > 1:
        raise BadTarget("There is more than one Host field.")
    if not hosts and required:
        raise BadTarget("The Host field is missing.")
    if hosts and not (_HOST.fullmatch(hosts[0]) and _has_sound_port(hosts[0])):
        raise BadTarget("The Host field is malformed.")


def read_target(method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Return the target in origin-form (or ``*``), and the authority that an absolute-form names; None for the others.

    :raises BadTarget: it is none that this service has.
    """
    if method == b"CONNECT":
        raise BadTarget("This is no proxy.")
    if target.startswith(b"/") or (method, target) == (b"OPTIONS", b"*"):
        return target, None
    found = _ABSOLUTE.fullmatch(target)
    if found is None or found[1][:1] in (b"", b":") or not _has_sound_port(found[1]):
        raise BadTarget("The target is neither a path nor an http URL.")
    authority, path = found.groups()
    return (path if path.startswith(b"/") else b"/" + path), authority


def _has_sound_port(authority: bytes) -> bool:
    """Whether the port of a well-formed authority, if it names one, is one that exists."""
    port = authority.rpartition(b"]")[2].partition(b":")[2]
    return not port or int(port) <= LARGEST_PORT
