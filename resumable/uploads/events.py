"""Which changes of an upload are told to the main application, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from resumable.model import EVENTS, Event, Piece, State, Upload
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report, as_json

CREATED = EVENTS[State.OPEN]
FINISHED = EVENTS[State.FINISHED]


def event_of(upload: Upload, stored: Sequence[Piece] = ()) -> Event | None:
    """Return the event of an upload that has come into its state, with its pieces; None if that state has none."""
    kind = EVENTS.get(upload.state)
    if kind is None:
        return None
    finished = upload.state is State.FINISHED
    coverage = Coverage.whole(upload.length or 0) if finished else Coverage.of(stored)
    return Event(upload.id, kind, as_json(Report(upload, coverage)), upload.updated)


class Announcer:
    """Picks the events that somebody wants to hear.

    :param types: such as ``upload.finished``.
    """

    def __init__(self, types: Collection[str]) -> None:
        self._types = frozenset(types)

    def __call__(self, upload: Upload, stored: Sequence[Piece]) -> Event | None:
        """Return what there is to tell; see `resumable.ledger.ledger.Announce`."""
        if EVENTS.get(upload.state) not in self._types:
            return None
        return event_of(upload, stored)
