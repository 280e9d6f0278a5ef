"""The SQL of claims: who may make the object under a key. Each function runs in a transaction of its caller."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from sqlalchemy import Connection, select, update

from resumable.ledger.schema import uploads
from resumable.ledger.statements import state_in
from resumable.model import State, Upload


@frozen
class Holder:
    """The upload that has the claim to a key, and the claim's word, which changes with each sign of life."""

    upload_id: str
    claim: str


def take(
    connection: Connection, *, upload: Upload, claim: str, states: Sequence[State], stale: Holder | None
) -> Holder | None:
    """Claim the object under the upload's key, for the upload; see `resumable.ledger.ledger.Ledger.claim`.

    :return: None if the claim is ours now. Otherwise who has it; its id is empty if the upload is in none of the
        states.
    """
    if stale is not None:
        give_up(connection, upload_id=stale.upload_id, claim=stale.claim)
    holder = select(uploads.c.id, uploads.c.claim).where(
        uploads.c.bucket == upload.bucket, uploads.c.key == upload.key, uploads.c.claim.is_not(None)
    )
    row = connection.execute(holder).first()
    if row is None:
        # Another process may try the same at this moment, even for the same upload.
        free = (uploads.c.id == upload.id, uploads.c.claim.is_(None), state_in(states))
        if connection.execute(update(uploads).where(*free).values(claim=claim)).rowcount:
            return None
        row = connection.execute(holder).first()
    # A repeated transaction finds its own claim.
    if row is not None and row.claim == claim:
        return None
    own_state = connection.execute(select(uploads.c.state).where(uploads.c.id == upload.id)).scalar()
    ended = own_state not in [state.value for state in states]
    return Holder("", "") if row is None or ended else Holder(row[0], row[1])


def renew(connection: Connection, *, upload: Upload, former: str, claim: str) -> str | None:
    """Replace the claim `former` with `claim`. Return the upload's state, or None if the claim was lost."""
    change = (
        update(uploads)
        .where(uploads.c.id == upload.id, uploads.c.claim.in_([former, claim]))
        .values(claim=claim)
        .returning(uploads.c.state)
    )
    return connection.execute(change).scalar()


def hand_on(connection: Connection, *, upload: Upload, claim: str, to: str, word: str) -> None:
    """Pass the claim to the upload `to`, as `word`. Do nothing if the claim was lost."""
    if give_up(connection, upload_id=upload.id, claim=claim):
        connection.execute(update(uploads).where(uploads.c.id == to).values(claim=word))


def give_up(connection: Connection, *, upload_id: str, claim: str) -> bool:
    """Give the claim up. Return whether the upload had it."""
    has_it = (uploads.c.id == upload_id, uploads.c.claim == claim)
    return bool(connection.execute(update(uploads).where(*has_it).values(claim=None)).rowcount)
