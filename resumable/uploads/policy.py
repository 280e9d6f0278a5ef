"""What the service's settings say about every upload: sizes, the grid, where objects go. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone

from attrs import evolve, field, fields, frozen

from resumable.model import Invalid, ObjectOptions, State, TooLarge, Upload
from resumable.uploads.grid import chunk_size_for

#: S3 takes keys of at most 1024 bytes of UTF-8.
MAX_KEY = 1024
#: The name of the object metadata that carries `Upload.token`.
TOKEN = "resumable-token"


@frozen
class Wish:
    """An upload that a client asks for and the main application has allowed. What it leaves out (None) the policy says."""

    protocol: str
    name: str
    owner: str = ""
    length: int | None = None
    max_size: int | None = None
    bucket: str | None = None
    key: str | None = None
    #: Whether many connections may write it at once, in any order. Its length has to be known.
    swarm: bool = False
    options: ObjectOptions = field(factory=ObjectOptions)


@frozen
class Changes:
    """What the main application wants to be different about an upload that is about to be created; None: nothing."""

    bucket: str | None = None
    key: str | None = None
    #: In place of all there was.
    metadata: Mapping[str, str] | None = None

    def of(self, wish: Wish) -> Wish:
        """The wish, changed."""
        options = wish.options if self.metadata is None else evolve(wish.options, metadata=dict(self.metadata))
        return evolve(wish, bucket=self.bucket or wish.bucket, key=self.key or wish.key, options=options)


@frozen
class Policy:
    """The settings that concern uploads; sizes in bytes."""

    bucket: str
    key: str = "{owner}/{name}"
    overwrite: bool = True
    chunk_size: int = 6 << 20
    max_parts: int = 10_000
    parts_in_flight: int = 4
    #: The largest chunk that memory is for.
    max_chunk: int = 64 << 20
    max_size: int = 5 << 40
    fragments_prefix: str = ".resumable/"
    #: Seconds after which an upload that nobody goes on with is ended.
    expire_after: float = 7 * 86400.0
    options: ObjectOptions = field(factory=ObjectOptions)

    def limit(self, max_size: int | None) -> int:
        """The most bytes an upload may have, given what the main application says."""
        return self.max_size if max_size is None else min(self.max_size, max_size)

    def new_upload(self, wish: Wish, upload_id: str, now: float) -> Upload:
        """The upload that `wish` asks for.

        :raises TooLarge: its length is over the limit or does not fit the grid.
        :raises Invalid: no object can have the key it would get.
        """
        limit = self.limit(wish.max_size)
        if wish.length is not None and wish.length > limit:
            raise TooLarge(f"{wish.length} bytes are more than the {limit} allowed")
        chunk_size = chunk_size_for(wish.length, chunk_size=self.chunk_size, max_parts=self.max_parts)
        if chunk_size > max(self.max_chunk, self.chunk_size):
            raise TooLarge(
                f"{wish.length} bytes would need parts of {chunk_size}; limits.memory allows {self.max_chunk}"
            )
        return Upload(
            id=upload_id,
            protocol=wish.protocol,
            owner=wish.owner,
            name=wish.name,
            bucket=wish.bucket or self.bucket,
            key=self._key(wish, upload_id, now),
            length=wish.length,
            chunk_size=chunk_size,
            created=now,
            updated=now,
            overwrite=self.overwrite,
            swarm=wish.swarm,
            options=_over(self.options, wish.options),
        )

    def _key(self, wish: Wish, upload_id: str, now: float) -> str:
        template = self.key if wish.owner else self.key.replace("{owner}/", "").replace("{owner}", "")
        date = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d")
        key = wish.key or template.format(name=wish.name, owner=wish.owner, id=upload_id, date=date)
        if len(key.encode()) > MAX_KEY:
            raise Invalid(f"the object's key would have {len(key.encode())} bytes; S3 takes {MAX_KEY}")
        if key.startswith(self.fragments_prefix):
            raise Invalid(f"the object's key would begin with {self.fragments_prefix!r}, which is the service's own")
        return key

    def expires(self, upload: Upload) -> float | None:
        """When the upload will be ended if nothing more comes of it (seconds since the epoch); None: not by the clock."""
        return upload.updated + self.expire_after if upload.state is State.OPEN else None

    def most_bytes(self, upload: Upload, max_size: int | None) -> int:
        """The offset that no byte of `upload` may reach: its length, or while that is unknown what limit and grid allow."""
        if upload.length is not None:
            return upload.length
        return min(self.limit(max_size), upload.chunk_size * self.max_parts)


def object_options(upload: Upload) -> ObjectOptions:
    """What the store is told about the upload's object: its options, and the token that recognises it."""
    metadata: Mapping[str, str] = {**upload.options.metadata, TOKEN: upload.token}
    return evolve(upload.options, metadata=metadata)


def _over(base: ObjectOptions, wished: ObjectOptions) -> ObjectOptions:
    """`base`, with what `wished` says in its place."""
    chosen = {f.name: getattr(wished, f.name) for f in fields(ObjectOptions)}
    return evolve(base, **{name: value for name, value in chosen.items() if value not in (None, {})})
