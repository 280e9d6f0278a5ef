"""The SQL of claims: who may make the object under a key. Each function runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from attrs import frozen
from sqlalchemy import Connection, bindparam, or_, select, update

from resumable.ledger.direct import run
from resumable.ledger.rows import as_upload
from resumable.ledger.schema import uploads
from resumable.ledger.statements import THIS, UPLOAD, state_in
from resumable.model import State, Upload

#: Who has the claim to ``key`` in ``bucket``.
_HOLDER = select(uploads.c.id, uploads.c.claim).where(
    uploads.c.bucket == bindparam("bucket"), uploads.c.key == bindparam("key"), uploads.c.claim.is_not(None)
)
#: (The new word may be there already, if the transaction is repeated.)
_RENEW = (
    update(uploads)
    .where(THIS, or_(uploads.c.claim == bindparam("former"), uploads.c.claim == bindparam("word")))
    .values(claim=bindparam("word"))
    .returning(uploads.c.state)
)
_HAND_ON = update(uploads).where(THIS).values(claim=bindparam("word"))
_GIVE_UP = update(uploads).where(THIS, uploads.c.claim == bindparam("former")).values(claim=None)


@cache
def _take(states: tuple[State, ...]) -> Any:
    """Return an UPDATE that gives the claim ``word`` to the upload ``this``, if nobody has one and its state is right."""
    free = update(uploads).where(THIS, uploads.c.claim.is_(None), state_in(states))
    return free.values(claim=bindparam("word")).returning(*uploads.c)


@frozen
class Holder:
    """The upload that has the claim to a key, and the claim's word, which changes with each sign of life."""

    upload_id: str
    claim: str


def take(
    connection: Connection, *, upload: Upload, claim: str, states: Sequence[State], stale: Holder | None
) -> Upload | Holder:
    """Claim the object under the upload's key, for the upload; see `resumable.ledger.ledger.Ledger.claim`.

    :return: the upload as it stands if the claim is ours now. Otherwise who has it; its id is empty if the upload is in none of
        the states.
    """
    if stale is not None:
        give_up(connection, upload_id=stale.upload_id, claim=stale.claim)
    at = {"bucket": upload.bucket, "key": upload.key}
    row = run(connection, _HOLDER, at).first()
    if row is None:
        # Another process may try the same at this moment, even for the same upload.
        ours = run(connection, _take(tuple(states)), {"this": upload.id, "word": claim}).first()
        if ours is not None:
            return as_upload(ours)
        row = run(connection, _HOLDER, at).first()
    own = run(connection, UPLOAD, {"this": upload.id}).first()
    # A repeated transaction finds its own claim.
    if row is not None and own is not None and row["claim"] == claim:
        return as_upload(own)
    ended = own is None or own["state"] not in [state.value for state in states]
    return Holder("", "") if row is None or ended else Holder(row["id"], row["claim"])


def renew(connection: Connection, *, upload: Upload, former: str, claim: str) -> str | None:
    """Replace the claim `former` with `claim`. Return the upload's state, or None if the claim was lost."""
    row = run(connection, _RENEW, {"this": upload.id, "former": former, "word": claim}).first()
    return None if row is None else row["state"]


def hand_on(connection: Connection, *, upload: Upload, claim: str, to: str, word: str) -> None:
    """Pass the claim to the upload `to`, as `word`. Do nothing if the claim was lost."""
    if give_up(connection, upload_id=upload.id, claim=claim):
        run(connection, _HAND_ON, {"this": to, "word": word})


def give_up(connection: Connection, *, upload_id: str, claim: str) -> bool:
    """Give the claim up. Return whether the upload had it."""
    return run(connection, _GIVE_UP, {"this": upload_id, "former": claim}).count > 0
