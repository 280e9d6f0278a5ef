"""The whole object's checksum, where the client has said it: no object is made of other bytes."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import now
from resumable.crc32c_text import encode_crc32c
from resumable.ledger.ledger import Ledger
from resumable.model import NotAsExpected, State, Unavailable, Upload

log = Logger()


async def check_expected(ledger: Ledger, clock: IReactorTime, upload: Upload, crc32c: int | None) -> None:
    """Check that an object of these bytes is the one that the client has. Called before it is made.

    :param crc32c: of all its bytes; None if nobody knows, which is not good enough for a client that has said it.
    :raises NotAsExpected: it is not. The upload has failed for good, for nobody knows which of its bytes are wrong.
    :raises Unavailable: somebody else has changed the upload meanwhile: asking again is right.
    """
    expected = upload.expected_crc32c
    if expected is None or crc32c == expected:
        return
    found = "unknown" if crc32c is None else encode_crc32c(crc32c)
    reason = f"the CRC32C of what was stored is {found}, and the client's is {encode_crc32c(expected)}"
    how: dict[str, Any] = {"reason": reason, "updated": now(clock)}
    if await ledger.move(upload, State.FAILED, frm=(upload.state,), edition=upload.edition, **how) is None:
        raise Unavailable("the upload has gone on elsewhere")
    log.warn("upload failed id={id}: {reason}", id=upload.id, reason=reason)
    raise NotAsExpected(reason)
