"""``/healthz``, ``/readyz``, ``/metrics``: for those who watch the service. The main application is not asked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from resumable.metrics import CONTENT_TYPE
from resumable.protocols.messages import Request, json_response
from resumable.protocols.response import Response, problem
from resumable.timestamps import rfc3339
from resumable.upkeep.readiness import ProbeStatus, Readiness

#: Gives what has been counted, in Prometheus's text format.
Figures = Callable[[], Awaitable[bytes]]


class HealthPages:
    """Says that the process lives, whether it can do its work, and what it has done."""

    def __init__(self, readiness: Readiness, figures: Figures) -> None:
        """:param figures: what has been counted, as Prometheus wants it."""
        self._readiness = readiness
        self._figures = figures

    async def alive(self, request: Request) -> Response:
        """Answer ``/healthz``: this process lives. Nobody else is asked."""
        return _other_methods(request) or Response(200, b"alive\n", {"Content-Type": "text/plain; charset=utf-8"})

    async def ready(self, request: Request) -> Response:
        """Answer ``/readyz``: 200 if all parts do their work, else 503; the body says which does not, and since when."""
        refused = _other_methods(request)
        if refused is not None:
            return refused
        verdicts = await self._readiness.look()
        ready = all(verdict.ok for verdict in verdicts.values())
        parts = {name: _as_json(verdict) for name, verdict in verdicts.items()}
        return json_response(200 if ready else 503, {"ready": ready, "parts": parts})

    async def metrics(self, request: Request) -> Response:
        """Answer ``/metrics`` as Prometheus wants it. What is told is at hand; nothing is asked for it."""
        return _other_methods(request) or Response(200, await self._figures(), {"Content-Type": CONTENT_TYPE})


def _other_methods(request: Request) -> Response | None:
    if request.method in (b"GET", b"HEAD"):
        return None
    return problem(405, "use GET", {"Allow": "GET, HEAD"})


def _as_json(verdict: ProbeStatus) -> dict[str, Any]:
    shown: dict[str, Any] = {"ok": verdict.ok, "since": rfc3339(verdict.since)}
    return shown if verdict.ok else {**shown, "reason": verdict.reason}
