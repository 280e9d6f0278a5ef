"""The one line in the log for each thing that happens to an upload."""

from __future__ import annotations

from twisted.logger import Logger, LogLevel

from resumable.model import Upload

log = Logger(namespace="resumable.uploads")


def log_upload(
    what: str, upload: Upload, size: int, now: float, why: str = "", level: LogLevel = LogLevel.info
) -> None:
    """Log it. Names are quoted: they are the client's.

    :param what: ``started``, ``finished``, …
    :param size: bytes from the start that are stored.
    :param now: seconds since the epoch.
    :param why: the reason, where there is one.
    """
    said = "upload {what} id={id} owner={owner!r} name={name!r} bytes={bytes} seconds={seconds:.3f}"
    log.emit(
        level,
        f"{said} ({{why}})" if why else said,
        what=what,
        **({"why": why} if why else {}),
        id=upload.id,
        owner=upload.owner,
        name=upload.name,
        bytes=size,
        seconds=round(now - upload.created, 3),
    )
