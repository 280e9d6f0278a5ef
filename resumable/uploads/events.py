"""Which changes of an upload are told to the main application, and what it is told. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from resumable.model import Event, Piece, State, Upload
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report, as_json

CREATED = "upload.created"
FINISHED = "upload.finished"
#: The event of having come into a state.
OF_STATE = {
    State.OPEN: CREATED,
    State.FINISHED: FINISHED,
    State.CANCELLED: "upload.cancelled",
    State.EXPIRED: "upload.expired",
    State.FAILED: "upload.failed",
}
TYPES = tuple(OF_STATE.values())


def event_of(upload: Upload, stored: Sequence[Piece] = ()) -> Event | None:
    """The event of an upload that has come into its state, with the pieces it has there; None if that state has none."""
    kind = OF_STATE.get(upload.state)
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
        """What there is to tell; see `resumable.ledger.ledger.Announce`."""
        if OF_STATE.get(upload.state) not in self._types:
            return None
        return event_of(upload, stored)
