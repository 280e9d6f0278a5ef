"""The last answer of an upload: its result, or what the main application says to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.web.http import datetimeToString

from resumable.callbacks.formats import Verdict
from resumable.protocols.messages import json_response
from resumable.protocols.response import Response
from resumable.uploads.result import Report, as_json

#: What the application says to a finished upload, by its id; None: nothing. Raises `Unavailable` if it cannot be asked.
Hear = Callable[[str], Awaitable["Verdict | None"]]


class Results:
    """Answers clients whose uploads are finished.

    :param hear: None where clients do not wait for the application.
    """

    def __init__(self, hear: Hear | None = None) -> None:
        self._hear = hear

    async def answer(self, report: Report) -> Response:
        """The answer to a finished upload; asked again it is the same.

        :raises Unavailable: the application is to be waited for, and cannot be reached. The object is safe.
        """
        verdict = None if self._hear is None else await self._hear(report.upload.id)
        if verdict is None or verdict.body is None:
            ours = json_response(200, as_json(report))
            if verdict is None:
                return ours
            return Response(verdict.status or 200, ours.body, (*ours.headers, *verdict.headers))
        return Response(verdict.status or 200, verdict.body, verdict.headers)


def expires_header(report: Report) -> dict[str, str]:
    """``Upload-Expires`` (tus 1.0.0, Expiration): when an unfinished upload will be ended if nothing more comes of it."""
    return {} if report.expires is None else {"Upload-Expires": datetimeToString(report.expires).decode("ascii")}
