"""The whole object's digests, where the client has said them: no object is told of that has others.

A CRC32C is combined from those of the parts, and is compared before the object is made. Other digests cannot be combined. They
are either checked while the bytes come, which takes all of them in one body that counts as a whole; or from the object, once it
is made: it is read back then, before anybody is told of it, and deleted if it is not what the client has said.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.clock import now
from resumable.crc32c_text import encode_crc32c
from resumable.ledger.ledger import Ledger
from resumable.model import READ_BACK, DigestMismatch, Invalid, NotAsExpected, State, Unavailable, Upload
from resumable.stores.port import Store
from resumable.uploads.digest import HASHES, BodyDigest, ExpectedDigests, Hash
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.readback import Lent
from resumable.uploads.stored_body import READ, read_extent

log = Logger()

#: Under this name an upload remembers the digests that each body is checked for, which has to be the whole object; those that the
#: object is read back for it remembers under `resumable.model.READ_BACK`. See `encode`.
IN_ONE_BODY = "digest-in-one-body"


def encode(digests: Mapping[str, bytes]) -> str:
    """Return digests as they are remembered: ``sha-256=BASE64,sha-512=BASE64``."""
    return ",".join(f"{name}={b64encode(digest).decode('ascii')}" for name, digest in sorted(digests.items()))


def decode(text: str | None) -> dict[str, bytes]:
    """Return what `encode` was given. What a newer program has remembered and this one cannot compute is left out."""
    pairs = [pair.partition("=") for pair in (text or "").split(",") if pair]
    return {name: b64decode(digest) for name, _, digest in pairs if name in HASHES}


def said_digests(upload: Upload) -> dict[str, bytes]:
    """Return the digests but for the CRC32C that the upload's object has to have; those of a finished one it has."""
    return {**decode(upload.remembered.get(IN_ONE_BODY)), **decode(upload.remembered.get(READ_BACK))}


def is_whole(upload: Upload, first: int, end: int | None, *, last: bool) -> bool:
    """Say whether a body ``[first, end)`` is the whole object.

    :param last: whether the upload ends where the body ends.
    """
    return first == 0 and (last or (end is not None and end == upload.announced))


def body_digest(upload: Upload, first: int, end: int | None, *, whole: bool) -> BodyDigest | None:
    """Return what checks a body for the digests that the whole object has to have; None where that is not how it is done.

    :param whole: whether the body is the whole object.
    :raises Invalid: it is not, and so nobody could ever check them.
    """
    expected = decode(upload.remembered.get(IN_ONE_BODY))
    if not expected or (first == end and not whole):
        return None
    if not whole:
        raise unchecked(expected)
    return ExpectedDigests.of(expected)


def unchecked(digests: Mapping[str, bytes]) -> Invalid:
    """Return the refusal of digests of a whole object that comes in several bodies."""
    return Invalid(
        f"the {' and '.join(sorted(digests))} of a whole object can be checked here only if one body brings all of it: "
        "say its crc32c, which can be checked for any number of bodies, or leave the digest out"
    )


def is_remembered(digests: Mapping[str, bytes], upload: Upload) -> bool:
    """Say whether an upload is already known to have to have these digests.

    :raises Invalid: others were said before.
    """
    said = said_digests(upload)
    if any(name in said and not compare_digest(said[name], digest) for name, digest in digests.items()):
        raise Invalid("another digest of the whole object was said before")
    return all(name in said for name in digests)


def others_said(digests: Mapping[str, bytes], upload: Upload) -> bool:
    """Say whether these digests of a whole object contradict what was said of the upload's before."""
    said = said_digests(upload)
    if upload.expected_crc32c is not None:
        said["crc32c"] = upload.expected_crc32c.to_bytes(4, "big")
    return any(name in said and said[name] != digest for name, digest in digests.items())


def check_made(upload: Upload, digests: Mapping[str, bytes]) -> None:
    """Check what a client says of an object that is made, as far as it is known.

    :raises DigestMismatch: it has another digest.
    """
    known = {**said_digests(upload)}
    if upload.crc32c is not None:
        known["crc32c"] = upload.crc32c.to_bytes(4, "big")
    for name, digest in digests.items():
        if name in known and not compare_digest(known[name], digest):
            text = b64encode(known[name]).decode("ascii")
            raise DigestMismatch(f"the object that was made has the {name} {text}", algorithm=name, computed=text)


async def check_expected(ledger: Ledger, clock: IReactorTime, upload: Upload, crc32c: int | None) -> None:
    """Check that an object of these bytes is the one that the client has. Called before it is made.

    No bytes come in no body: for an upload that was said to have none, digests that bodies are checked for are compared here.

    :param crc32c: of all its bytes; None if nobody knows, which is not good enough for a client that has said it.
    :raises NotAsExpected: it is not. The upload has failed for good, for nobody knows which of its bytes are wrong.
    :raises Unavailable: somebody else has changed the upload meanwhile: asking again is right.
    """
    if upload.length == 0:
        wrong = _differing(decode(upload.remembered.get(IN_ONE_BODY)), {})
        if wrong is not None:
            await fail(ledger, clock, upload, str(wrong))
            raise wrong
    expected = upload.expected_crc32c
    if expected is None or crc32c == expected:
        return
    found = "unknown" if crc32c is None else encode_crc32c(crc32c)
    reason = f"the CRC32C of what was stored is {found}, and the client's is {encode_crc32c(expected)}"
    await fail(ledger, clock, upload, reason)
    raise NotAsExpected(reason, algorithm="crc32c", computed="" if crc32c is None else found)


async def fail(ledger: Ledger, clock: IReactorTime, upload: Upload, reason: str) -> None:
    """Note that the upload has failed for good.

    :raises Unavailable: somebody else has changed it meanwhile.
    """
    how: dict[str, Any] = {"reason": reason, "updated": now(clock)}
    if await ledger.move(upload, State.FAILED, frm=(upload.state,), edition=upload.edition, **how) is None:
        raise Unavailable("the upload has gone on elsewhere")
    log.warn("upload failed id={id}: {reason}", id=upload.id, reason=reason)


async def read_and_compare(store: Store, room: ReadBackLimiter, upload: Upload, etag: str) -> NotAsExpected | None:
    """Read an object back that was made just now, and compare it with the digests that were said of it.

    It is read and hashed in steps of `READ` bytes, so that nothing else has to wait for long.

    :param room: limits the bytes that are read at a time, for all who read.
    :return: what is wrong with it; None: it is what it has to be.
    :raises resumable.stores.port.StoreError: the store cannot be asked just now, or the object is not there any more.
    """
    expected, size = decode(upload.remembered.get(READ_BACK)), upload.length or 0
    running = {name: HASHES[name]() for name in expected}
    for first in range(0, size if running else 0, READ):
        end = min(first + READ, size)
        async with Lent(room, end - first):
            segments = await read_extent(store, upload, first, end, etag=etag)
            for segment in segments:
                for each in running.values():
                    each.update(segment)
            segments.clear()
    return _differing(expected, running)


def _differing(expected: Mapping[str, bytes], running: Mapping[str, Hash]) -> NotAsExpected | None:
    """Return what is wrong with stored bytes; None: nothing is.

    :param running: hashes that have run over the bytes. One that is missing has run over no bytes.
    """
    for name, digest in expected.items():
        computed = (running.get(name) or HASHES[name]()).digest()
        if not compare_digest(computed, digest):
            found, said = (b64encode(each).decode("ascii") for each in (computed, digest))
            reason = f"the {name} of what was stored is {found}, and the client's is {said}"
            return NotAsExpected(reason, algorithm=name, computed=found)
    return None
