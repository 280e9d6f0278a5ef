"""Browsers from other origins: what the Fetch standard's CORS protocol asks of answers (https://fetch.spec.whatwg.org/#http-cors-protocol).

A page of another origin may send what the protocols here say that they read, and read what they say that they answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from attrs import evolve

from resumable.protocols.base import Protocol
from resumable.protocols.messages import Request
from resumable.protocols.response import ALLOW_ORIGIN, Response, problem

#: Seconds for which a browser may remember the answer to a preflight; Chromium takes no more than two hours.
MAX_AGE = 86400
#: Headers of requests that belong to no protocol.
ALWAYS_SENT = ("Authorization", "Content-Type", "X-Request-Id", "X-Requested-With")
#: Headers of answers that belong to no protocol.
ALWAYS_READ = ("Location", "Retry-After", "WWW-Authenticate", "X-Request-Id")
#: What the Fetch standard calls forbidden: a page cannot set it, whatever is allowed.
NEVER_SENT = frozenset({"cookie", "host", "origin", "referer", "user-agent"})


class Origins:
    """The origins that are let in.

    :param allowed: exact origins (``https://app.example.com``), ``*``, and patterns whose first label is ``*``
        (``https://*.example.com``): subdomains of any depth, and no port but the one that is written.
    """

    def __init__(self, allowed: Iterable[str]) -> None:
        self.all = "*" in (allowed := [origin.lower() for origin in allowed])
        self._exact = frozenset(origin for origin in allowed if "*" not in origin)
        self._patterns = [
            (scheme, rest[1:])
            for scheme, _, rest in (origin.partition("://") for origin in allowed)
            if rest.startswith("*.")
        ]

    def __contains__(self, origin: str) -> bool:
        origin = origin.lower()
        if self.all or origin in self._exact:
            return True
        scheme, _, host = origin.partition("://")
        return any(
            scheme == wanted and host.endswith(ending) and _is_host(host[: -len(ending)])
            for wanted, ending in self._patterns
        )


def _is_host(labels: str) -> bool:
    return bool(labels) and all(label and label.replace("-", "a").isalnum() for label in labels.split("."))


class Cors:
    """Answers preflights, and says on every answer which origin may read it.

    :param origins: which may.
    :param credentials: whether they may send cookies and the like.
    :param protocols: what is spoken.
    :param sent: headers of requests that are allowed beside those of the protocols.
    """

    def __init__(
        self, origins: Iterable[str], *, credentials: bool, protocols: Sequence[Protocol], sent: Iterable[str] = ()
    ) -> None:
        self._origins = Origins(origins)
        self._credentials = credentials
        #: Whether all origins get the same answer, which caches then may share.
        self._same_for_all = self._origins.all and not credentials
        methods = {method for protocol in protocols for method in protocol.spoken.methods}
        allowed = _union([ALWAYS_SENT, sent, *(protocol.spoken.sent for protocol in protocols)])
        self._methods = ", ".join(sorted(methods | {"OPTIONS"}))
        self._allowed = ", ".join(name for name in allowed if name.lower() not in NEVER_SENT)
        self._exposed = ", ".join(_union([ALWAYS_READ, *(protocol.spoken.read for protocol in protocols)]))

    def preflight(self, request: Request) -> Response | None:
        """Return the answer to a preflight; None for any other request. Nobody is asked for it."""
        asked = request.requestHeaders.hasHeader(b"access-control-request-method")
        origin = _origin(request)
        if request.method != b"OPTIONS" or origin is None or not asked:
            return None
        if origin not in self._origins:
            return problem(403, "requests from this origin are not allowed: see cors.origins", self._vary)
        headers = {
            "Access-Control-Allow-Methods": self._methods,
            "Access-Control-Allow-Headers": self._allowed,
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        # A public page that reaches into a private network has to be let in by name.
        if request.requestHeaders.getRawHeaders(b"access-control-request-private-network", []) == [b"true"]:
            headers["Access-Control-Allow-Private-Network"] = "true"
        return Response(204, headers={**headers, **self._who(origin)})

    def decorate(self, request: Request, response: Response) -> Response:
        """Return the answer with what a page of another origin may read of it."""
        if any(name == ALLOW_ORIGIN for name, _ in response.headers):
            return response  # it may be read from everywhere
        origin = _origin(request)
        headers = dict(self._vary)
        if origin is not None and origin in self._origins:
            headers = {**self._who(origin), "Access-Control-Expose-Headers": self._exposed}
        return evolve(response, headers=(*response.headers, *headers.items()))

    @property
    def _vary(self) -> dict[str, str]:
        return {} if self._same_for_all else {"Vary": "Origin"}

    def _who(self, origin: str) -> dict[str, str]:
        if self._same_for_all:
            return {ALLOW_ORIGIN: "*"}
        allowed = {ALLOW_ORIGIN: origin, **self._vary}
        return {**allowed, "Access-Control-Allow-Credentials": "true"} if self._credentials else allowed


def _origin(request: Request) -> str | None:
    lines = request.requestHeaders.getRawHeaders(b"origin", [])
    return lines[0].decode("latin-1") if len(lines) == 1 and lines[0] else None


def _union(lists: Iterable[Iterable[str]]) -> list[str]:
    """Return the names, each once, whatever capitals it is written in."""
    found: dict[str, str] = {}
    for name in (name for names in lists for name in names):
        found.setdefault(name.lower(), name)
    return sorted(found.values(), key=str.lower)
