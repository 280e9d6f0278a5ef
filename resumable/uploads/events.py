"""Which changes of an upload are told to the main application, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from resumable.model import EVENTS, Event, Piece, State, Upload
from resumable.request_info import current
from resumable.uploads.result import Report, as_json

CREATED = EVENTS[State.OPEN]
FINISHED = EVENTS[State.FINISHED]
#: In an event's data: ``Upload-Metadata`` as a tus client sent it. Absent where there is none. It is for formats that
#: pass it on, and no part of the result.
SENT_METADATA = "upload_metadata"
#: In an event's data: the id of the request that brought the event about. Absent where there was none. It is no part of the
#: result either.
REQUEST_ID = "request_id"


class ProgressObserver(Protocol):
    """Hears how uploads get on, as it happens. It must not raise, and what it does must not take long."""

    def moved(self, upload_id: str, report: Callable[[], Report | None], end: Callable[[str], None]) -> None:
        """Take note that more of the upload is acknowledged.

        :param report: returns how far the upload is when it is called; None once the upload has ended.
        :param end: ends the upload as cancelled, with a reason for people.
        """

    def ended(self, upload_id: str) -> None:
        """Take note that there is no more to tell of the upload."""


def event_of(upload: Upload, stored: Sequence[Piece] = ()) -> Event | None:
    """Return the event of an upload that has come into its state, with its pieces; None if that state has none.

    It has the id of the request that is being served, if there is one.
    """
    kind = EVENTS.get(upload.state)
    if kind is None:
        return None
    info = current()
    asked = {} if info is None else {REQUEST_ID: info.id}
    return Event(upload.id, kind, {**data_of(Report.of(upload, stored)), **asked}, upload.updated)


def data_of(report: Report) -> dict[str, Any]:
    """Return what an event says of the upload."""
    # The protocol tus keeps it under this name.
    sent = report.upload.remembered.get("upload-metadata")
    return {**as_json(report), **({SENT_METADATA: sent} if sent else {})}


class Announcer:
    """Picks the events that somebody wants to hear.

    :param types: such as ``upload.finished``.
    :param partials: whether partial uploads are told of, too. To an application that knows nothing of them they would look
        like uploads.
    """

    def __init__(self, types: Collection[str], *, partials: bool = False) -> None:
        self._types = frozenset(types)
        self._partials = partials

    def __call__(self, upload: Upload, stored: Sequence[Piece]) -> Event | None:
        """Return what there is to tell; see `resumable.ledger.ledger.Announce`."""
        if EVENTS.get(upload.state) not in self._types or (upload.partial and not self._partials):
            return None
        return event_of(upload, stored)
