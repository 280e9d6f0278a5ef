"""What is known of uploads' fragments in the store, so that the store need not be asked. Pure."""

from __future__ import annotations

#: How many uploads whose fragments are all known, and fragments of these, there are together at most: some 3 MiB. And how many
#: fragments one of them may have. Of those beyond that the store is asked.
MOST_KNOWN, MOST_OF_ONE = 10_000, 64


class KnownKeys:
    """The keys of all fragments that uploads may have in the store, of as many uploads as there is room for."""

    def __init__(self) -> None:
        self._keys: dict[str, set[str]] = {}
        self._count = 0

    def begin(self, upload_id: str) -> None:
        """Take note that an upload has no fragments yet."""
        self.end(upload_id)
        self._keys[upload_id] = set()
        self._count += 1
        self._make_room()

    def add(self, upload_id: str, key: str) -> None:
        """Take note of one fragment more, if those before are known."""
        keys = self._keys.get(upload_id)
        if keys is None:
            return
        if len(keys) >= MOST_OF_ONE:
            self.end(upload_id)
            return
        keys.add(key)
        self._count += 1
        self._make_room()

    def discard(self, upload_id: str, key: str) -> None:
        """Take note that a fragment is deleted."""
        keys = self._keys.get(upload_id, ())
        if key in keys:
            self._keys[upload_id].remove(key)
            self._count -= 1

    def end(self, upload_id: str) -> None:
        """Forget what is known of an upload."""
        keys = self._keys.pop(upload_id, None)
        if keys is not None:
            self._count -= 1 + len(keys)

    def of(self, upload_id: str) -> list[str] | None:
        """Return the keys, or None: not all are known."""
        keys = self._keys.get(upload_id)
        return None if keys is None else sorted(keys)

    def _make_room(self) -> None:
        while self._count > MOST_KNOWN:
            self.end(next(iter(self._keys)))
