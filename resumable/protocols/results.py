"""The last answer of an upload: its result, or what the main application says to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from attrs import frozen
from twisted.web.http import datetimeToString

from resumable.callbacks.formats import HookResult
from resumable.protocols.messages import json_response
from resumable.protocols.response import Response
from resumable.uploads.result import Report, as_json
from resumable.uploads.values import answer_headers

#: What the application says to a finished upload, by its id; None: nothing. Raises `Unavailable` if it cannot be asked.
Hear = Callable[[str], Awaitable["HookResult | None"]]


@frozen
class LastAnswer:
    """What the application says to a finished upload.

    :ivar body: None: the result.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class Results:
    """Answers clients whose uploads are finished.

    :param hear: None where clients do not wait for the application.
    """

    def __init__(self, await_verdict: Hear | None = None) -> None:
        self._hear = await_verdict

    async def verdict(self, report: Report) -> LastAnswer | None:
        """Return what the application says to a finished upload; asked again it is the same. None where it is not asked.

        :raises Unavailable: the application is to be waited for, and cannot be reached. The object is safe.
        """
        verdict = None if self._hear is None else await self._hear(report.upload.id)
        if verdict is None:
            return None
        # What was kept by an older program may hold what no answer can.
        headers, _ = answer_headers(verdict.headers)
        status = verdict.status if verdict.status is not None and 200 <= verdict.status <= 599 else 200
        return LastAnswer(status, tuple(headers), verdict.body)

    async def answer(self, report: Report) -> Response:
        """Return the answer to a finished upload: its result, or what the application says. Errors as `verdict`."""
        said = await self.verdict(report)
        if said is None:
            return json_response(200, as_json(report))
        if said.body is None:
            ours = json_response(said.status, as_json(report))
            return Response(said.status, ours.body, (*ours.headers, *said.headers))
        return Response(said.status, said.body, said.headers)


def expires_header(report: Report) -> dict[str, str]:
    """``Upload-Expires`` (tus 1.0.0, Expiration): when an unfinished upload will be ended if nothing more comes of it."""
    return {} if report.expires is None else {"Upload-Expires": datetimeToString(report.expires).decode("ascii")}
