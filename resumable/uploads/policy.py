"""What the service's settings say about every upload: sizes, the grid, where objects go. Pure, but for a line in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone

from attrs import evolve, field, frozen
from twisted.logger import Logger

from resumable.model import (
    ANNOUNCED,
    OPTIONS,
    READ_BACK,
    Invalid,
    ObjectOptions,
    Rejected,
    State,
    TooLarge,
    Unavailable,
    Upload,
)
from resumable.quoting import quote_briefly
from resumable.stores.port import StoreLimits
from resumable.uploads import values
from resumable.uploads.expected import IN_ONE_BODY, encode, unchecked
from resumable.uploads.grid import MIB, Bounds, Cut, Grid

log = Logger()

#: The name of the object metadata that carries `Upload.token`.
TOKEN = "resumable-token"


@frozen
class CreateRequest:
    """An upload that a client asks for and the main application has allowed. What it leaves out (None) the policy says."""

    protocol: str
    #: None: the upload is called by its id.
    name: str | None
    owner: str = ""
    length: int | None = None
    #: Whether the length is only announced: a request has yet to say that the upload ends there (`Upload.announced`).
    open_ended: bool = False
    max_size: int | None = None
    bucket: str | None = None
    key: str | None = None
    #: Whether many connections may write it at once, in any order. Its length has to be known.
    swarm: bool = False
    #: Whether an object already under the key may be replaced, as far as the client is concerned.
    overwrite: bool = True
    #: See `Upload.expected_crc32c`.
    expected_crc32c: int | None = None
    options: ObjectOptions = field(factory=ObjectOptions)
    #: What the client says of the whole object, by the names of `resumable.uploads.digest.HASHES`.
    digests: Mapping[str, bytes] = field(factory=dict)
    #: See `Upload.remembered`, `Upload.partial` and `Upload.sources`.
    remembered: Mapping[str, str] = field(factory=dict)
    partial: bool = False
    sources: Sequence[str] = ()


@frozen
class CreateOverrides:
    """What the main application wants to be different about an upload that is about to be created; None: nothing."""

    bucket: str | None = None
    key: str | None = None
    #: In place of all there was.
    metadata: Mapping[str, str] | None = None

    def of(self, wanted: CreateRequest) -> CreateRequest:
        """Return what is wanted, with these changes."""
        options = wanted.options if self.metadata is None else evolve(wanted.options, metadata=dict(self.metadata))
        return evolve(wanted, bucket=self.bucket or wanted.bucket, key=self.key or wanted.key, options=options)


@frozen(kw_only=True)
class Policy:
    """The settings that concern uploads; sizes in bytes.

    :ivar key: the template of the objects' keys.
    :ivar overwrite: whether an object that is there already may be replaced.
    :ivar chunk_size: the fewest bytes of a chunk of a grid.
    :ivar limits: what the store takes.
    :ivar memory: bytes of bodies that can be in memory.
    :ivar max_chunk: the largest chunk that can be joined in memory, if an object needs so large ones.
    :ivar partial_chunk: the most bytes of a partial upload that become its object in one request.
    :ivar answer_within: seconds that a client waits at the most for an object that is made of partial uploads.
    :ivar expire_after: seconds after which an upload that nobody goes on with is ended.
    :ivar reads_back: whether an object is read back where its client has said a digest that cannot be combined from its parts.
    """

    bucket: str
    key: str
    overwrite: bool
    chunk_size: int
    max_parts: int
    parts_in_flight: int
    limits: StoreLimits
    memory: int
    max_chunk: int
    partial_chunk: int
    answer_within: float
    max_size: int
    fragments_prefix: str
    expire_after: float
    reads_back: bool
    options: ObjectOptions

    def limit(self, max_size: int | None) -> int:
        """Return the most bytes an upload may have, given what the main application says."""
        return self.max_size if max_size is None else min(self.max_size, max_size)

    def new_upload(self, wanted: CreateRequest, upload_id: str, now: float, *, writing: int = 0) -> Upload:
        """Return the upload that `wanted` asks for.

        :param writing: how many bodies are being written at present. Chunks are small where many share the memory.
        :raises TooLarge: its length is over the limit or does not fit the grid.
        :raises Rejected: no object can have one of its values, or the key it would get.
        :raises Unavailable: the main application has chosen a key that is the service's own.
        """
        name = upload_id if wanted.name is None else wanted.name
        limit = self.limit(wanted.max_size)
        if wanted.length is not None and wanted.length > limit:
            raise TooLarge(f"{quote_briefly(wanted.length)} bytes are more than the {limit} allowed")
        cut = self._cut(wanted, writing)
        options = _over(self.options, wanted.options)
        with values.from_client():
            values.check_name(name)
            values.check_owner(wanted.owner)
            values.check_options(options)
            key = self._key(wanted, name, upload_id, now)
        return Upload(
            id=upload_id,
            protocol=wanted.protocol,
            owner=wanted.owner,
            name=name,
            bucket=wanted.bucket or self.bucket,
            key=key,
            length=None if wanted.open_ended else wanted.length,
            chunk_size=cut.chunk_size,
            growth=cut.growth,
            cell=cut.cell,
            created=now,
            updated=now,
            overwrite=self.overwrite and wanted.overwrite,
            expected_crc32c=_expected_crc32c(wanted),
            swarm=wanted.swarm,
            options=options,
            remembered={**_remembered(wanted), **self._remembered_digests(wanted)},
            partial=wanted.partial,
            sources=tuple(wanted.sources),
        )

    def not_combined(self, digests: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return those digests of a whole object that have to be checked, and cannot be combined from those of its parts.

        Where there is a CRC32C among them, which can always be checked, the others are if the object can be read back.
        """
        if "crc32c" in digests and not self.reads_back:
            return {}
        return {name: digest for name, digest in digests.items() if name != "crc32c"}

    def _remembered_digests(self, wanted: CreateRequest) -> Mapping[str, str]:
        """Return what the upload remembers of its digests: see `resumable.uploads.expected`.

        :raises Invalid: there is none that could ever be checked.
        """
        others = self.not_combined(wanted.digests)
        if not others:
            return {}
        if self.reads_back:
            return {READ_BACK: encode(others)}
        if wanted.swarm:
            raise unchecked(others)
        return {IN_ONE_BODY: encode(others)}

    def _cut(self, wanted: CreateRequest, writing: int) -> Cut:
        """Return how the object is cut. Errors as `new_upload`."""
        length, limits = wanted.length, self.limits
        if (
            wanted.partial
            and length is not None
            and self.chunk_size < length <= min(self.partial_chunk, self.max_chunk)
        ):
            # There are seldom more than a few of them, and each request saved is saved once more when they are joined.
            return Cut(-(-length // MIB) * MIB)
        bounds = Bounds(
            chunk_size=self.chunk_size,
            # Of such a chunk each writer, the new one included, can have two in memory, and nobody more than four.
            bearable=self.memory // max(2 * (writing + 1), 4),
            in_memory=self.max_chunk,
            max_parts=self.max_parts,
            largest_part=limits.largest_part,
            # Where all of an upload's parts have to be objects then, it is not begun so before that is known to be needed.
            joins=limits.copies_freely and not (limits.joins_whole and length is None),
            equal=limits.equal_parts,
        )
        if wanted.sources and limits.copies_freely:
            # What is made of partial uploads is seldom read back.
            bounds = evolve(bounds, in_memory=limits.largest_part)
        return bounds.cut_for(length)

    def _key(self, wanted: CreateRequest, name: str, upload_id: str, now: float) -> str:
        if wanted.partial:
            return partial_key(self.fragments_prefix, upload_id)
        if wanted.key is not None:
            key = values.check_key(wanted.key, most=self.limits.key)
            if key.startswith(self.fragments_prefix):
                log.warn("the application chose a key under {prefix}, the service's own", prefix=self.fragments_prefix)
                raise Unavailable("the application gave an answer that cannot be used")
            return key
        date = datetime.fromtimestamp(now, timezone.utc).strftime("%Y-%m-%d")
        template, owner = self.key if wanted.owner else without_owner(self.key), values.owner_segment(wanted.owner)
        made = template.format(name=name, owner=owner, id=upload_id, date=date)
        values.check_parts(made, owner=owner, name=name, most=self.limits.key)
        key = values.check_key(made, field="name", most=self.limits.key)
        if key.startswith(self.fragments_prefix):
            raise Rejected("name", f"the object's key would begin with {self.fragments_prefix!r}, the service's own")
        return key

    def expires(self, upload: Upload) -> float | None:
        """Return when the upload is ended if nothing more comes (seconds since the epoch); None: not by the clock."""
        return upload.updated + self.expire_after if upload.state is State.OPEN else None

    def most_bytes(self, upload: Upload, max_size: int | None) -> int:
        """Return the offset that no byte may reach: the upload's length, or while that is unknown what limit and grid allow."""
        if upload.length is not None:
            return upload.length
        return min(self.limit(max_size), Grid.of(upload).end_of(self.max_parts), self.limits.largest_object)


def partial_key(prefix: str, upload_id: str) -> str:
    """Return the key of a partial upload's object.

    :param prefix: what the keys of fragments begin with.
    """
    return f"{prefix}{upload_id}/object"


def without_owner(template: str) -> str:
    """Return a template of keys for nobody in particular: a segment that was the owner's alone is left out."""
    segments = [(segment, segment.replace("{owner}", "")) for segment in template.split("/")]
    return "/".join(rest for segment, rest in segments if rest or not segment)


def object_options(upload: Upload) -> ObjectOptions:
    """Return what the store is told about the upload's object: its options, and the token that recognises it."""
    metadata: Mapping[str, str] = {**upload.options.metadata, TOKEN: upload.token}
    return evolve(upload.options, metadata=metadata)


def _expected_crc32c(wanted: CreateRequest) -> int | None:
    """Return the CRC32C that the client says of the whole object.

    :raises Invalid: it says two.
    """
    said = wanted.digests.get("crc32c")
    crc32c = None if said is None else int.from_bytes(said, "big")
    if None not in (crc32c, wanted.expected_crc32c) and crc32c != wanted.expected_crc32c:
        raise Invalid("two different CRC32Cs of the object are said")
    return wanted.expected_crc32c if crc32c is None else crc32c


def _remembered(wanted: CreateRequest) -> Mapping[str, str]:
    if wanted.length is None or not wanted.open_ended:
        return wanted.remembered
    return {**wanted.remembered, ANNOUNCED: str(wanted.length)}


def _over(base: ObjectOptions, wanted: ObjectOptions) -> ObjectOptions:
    """Return `base`, with what `wanted` says in its place."""
    chosen = {name: getattr(wanted, name) for name in OPTIONS}
    return evolve(base, **{name: value for name, value in chosen.items() if value not in (None, {})})
