"""What is remembered of uploads that are not complete: one small file for each, and a lock beside it.

It holds no header and no query of a URL, in both of which a token may be.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from attrs import asdict, evolve, frozen

from resumable.client.errors import Busy
from resumable.client.sources import Identity

VERSION = 1
#: Bytes that are read of a record.
MOST = 64 * 1024


@frozen
class Record:
    """An upload that was begun.

    :ivar url: without user, password and query.
    :ivar stored: bytes that were acknowledged when this was written; the server knows better.
    """

    url: str
    file: str
    size: int
    mtime_ns: int
    stored: int = 0


def default_folder() -> Path:
    """Return ``$XDG_STATE_HOME/resumable``, or ``~/.local/state/resumable``.

    :raises OSError: the user has no home, as in some containers.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    # A relative path is to be ignored (XDG Base Directory Specification).
    if os.path.isabs(home):
        return Path(home) / "resumable"
    try:
        return Path.home() / ".local" / "state" / "resumable"
    except RuntimeError:
        raise OSError("there is no home folder, and no XDG_STATE_HOME") from None


def without_secrets(url: str) -> str:
    """Return a URL without user, password, query and fragment."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


class Claim:
    """The right to upload a file to a URL, which one process has at a time. Its methods block for a moment.

    The lock ends with the process, however that ends.

    :ivar record: the upload of the file as it is now, if one was begun; else None.
    """

    def __init__(self, folder: Path, url: str, file: str, identity: Identity) -> None:
        """Take the right.

        :raises Busy: another process has it.
        :raises OSError: the folder cannot be used.
        """
        key = hashlib.sha256(b"\0".join([url.encode(), os.fsencode(file)])).hexdigest()[:40]
        self._path = folder / f"{key}.json"
        self._lock_path = folder / f"{key}.lock"
        self._writing = threading.Lock()
        self._forgotten = False
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = self._take()
        self.record = self._read(identity)
        self._begun = Record(without_secrets(url), os.fsencode(file).decode("utf-8", "replace"), *_values(identity))

    def _take(self) -> int:
        while True:
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever had it before may have removed the file meanwhile.
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(lock), os.stat(self._lock_path)):
                        return lock
                os.close(lock)
            except BlockingIOError:
                os.close(lock)
                raise Busy("another process on this machine is uploading this file to this URL") from None
            except BaseException:
                os.close(lock)
                raise

    def _read(self, identity: Identity) -> Record | None:
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(MOST))
            version = found.pop("version")
            record = Record(**found)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # A record that cannot be read only costs the bytes that it could have saved.
            return None
        same = version == VERSION and (record.size, record.mtime_ns) == _values(identity)
        return record if same else None

    def save(self, stored: int) -> None:
        """Write down that the upload was begun and how far it is: all of it, or nothing new.

        :raises OSError: it cannot be written.
        """
        with self._writing:
            # A thread may come here late, when the upload has ended.
            if self._lock >= 0 and not self._forgotten:
                self._write(evolve(self._begun, stored=stored))

    def _write(self, record: Record) -> None:
        self.record = record
        temporary = self._path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8", opener=_private) as file:
            json.dump({"version": VERSION, **asdict(record)}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def forget(self) -> None:
        """Forget the upload: it is complete, or nothing of it is of use."""
        with self._writing:
            self.record, self._forgotten = None, True
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others have the right."""
        with self._writing:
            if self._lock >= 0:
                with suppress(OSError):
                    self._lock_path.unlink(missing_ok=True)
                os.close(self._lock)
                self._lock = -1


def _values(identity: Identity) -> tuple[int, int]:
    return identity.size, identity.mtime_ns


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
