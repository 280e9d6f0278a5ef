"""What an upload has in the store beside its bytes on their way: found, and given back when it has ended."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeGuard

from attrs import evolve
from twisted.logger import Logger

from resumable.ledger.ledger import Ledger
from resumable.model import Piece, State, Unavailable, Upload
from resumable.stores.port import Fence, Store, StoredObject, StoreError
from resumable.uploads.fragments import Fragments
from resumable.uploads.policy import TOKEN

_log = Logger()


async def release(store: Store, fragments: Fragments, upload: Upload) -> None:
    """Free what is stored of an upload that has ended, but for its object.

    :raises resumable.stores.port.StoreError: the store would not; it may be asked again.
    """
    if upload.multipart_id is not None and upload.state is not State.FINISHED:
        await store.abort_multipart_upload(upload.bucket, upload.key, upload.multipart_id)
    await fragments.sweep(upload)


async def release_late(
    ledger: Ledger, store: Store, fragments: Fragments, upload: Upload, piece: Piece, multipart_ids: Collection[str]
) -> None:
    """Free a piece that was stored too late to count, while what the upload had in the store was freed, or after that.

    What cannot be freed now, cleaning finds.

    :param upload: as the caller knows it, which may be old.
    :param multipart_ids: of all multipart uploads that it may have stored parts in.
    """
    try:
        current = await ledger.get(upload.id)
        if current is None or current.state is State.FINISHED:
            gone: Collection[str] = ()
        else:
            gone = [one for one in multipart_ids if not current.live or one != current.multipart_id]
        for multipart_id in gone:
            await store.abort_multipart_upload(upload.bucket, upload.key, multipart_id)
        if current is not None and not current.live:
            await _sweep_again(fragments, current)
        elif piece.number is None and not await _counts(ledger, upload, piece):
            await fragments.delete(upload, [piece])
    except (StoreError, Unavailable) as error:
        _log.info("what came late of upload {id} is not freed: {error}", id=upload.id, error=str(error))


async def release_fragments(ledger: Ledger, fragments: Fragments, upload: Upload) -> None:
    """Free the fragments of an upload if it has ended: one may have been stored that nobody knows of.

    What cannot be freed now, cleaning finds.

    :param upload: as the caller knows it, which may be old.
    """
    try:
        current = await ledger.get(upload.id)
        if current is not None and not current.live:
            await _sweep_again(fragments, current)
    except (StoreError, Unavailable) as error:
        _log.info("fragments of upload {id} may be left: {error}", id=upload.id, error=str(error))


async def _sweep_again(fragments: Fragments, ended: Upload) -> None:
    # By now its row may say that there are none: they were deleted before the last one came.
    await fragments.sweep(evolve(ended, fragmented=True))


async def _counts(ledger: Ledger, upload: Upload, piece: Piece) -> bool:
    """Return whether the ledger has the piece all the same.

    The answer to the transaction that entered it may have been lost, and somebody have begun a new edition behind it before
    the transaction was repeated. A former edition gets no more pieces, so this stays as it is.
    """
    found = await ledger.pieces_within(upload.id, piece.first, piece.end)
    return any(one.etag == piece.etag for one in found)


def is_own(found: StoredObject | None, upload: Upload) -> TypeGuard[StoredObject]:
    """Return whether what a look at the upload's key has found is this upload's object, and nobody else's."""
    return found is not None and found.metadata.get(TOKEN) == upload.token


async def delete_own_object(store: Store, upload: Upload, fence: Fence) -> None:
    """Delete the upload's object, if there is one; nobody else's.

    :param fence: the key's claim: no other upload makes an object there between the look and the deletion. What somebody
        else entirely puts there, the store is told by the ETag not to delete.
    """
    found = await store.head_object(upload.bucket, upload.key)
    if is_own(found, upload):
        await store.delete_object(upload.bucket, upload.key, etag=found.etag, fence=fence)
