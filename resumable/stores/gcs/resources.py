"""The JSON API, for what the XML API cannot do: to say everything of an object, and to move it on a condition."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from attrs import frozen

from resumable.crc32c_text import decode_crc32c
from resumable.stores.gcs.marks import without_marks
from resumable.stores.port import Fence, NotFound, StoreUnavailable
from resumable.stores.transport.exchange import PAGE_LIMIT
from resumable.stores.xmlapi.answers import CallFailure
from resumable.stores.xmlapi.calls import Call, Calls, Reply
from resumable.stores.xmlapi.confirming import lacking

#: Path of the JSON API at the endpoint, above the bucket's name.
PATH = "/storage/v1/b"
#: Seconds that one call of a rewrite may take: "up to 30 s", Google says, and sometimes more.
REWRITE = 300.0
#: The most calls of one rewrite. Each moves some GiB at least, or all at once where class and location stay.
MOST_CALLS = 10_000
#: The most objects that one call makes an object of.
MOST_SOURCES = 32
#: What is taken along when an object is moved with metadata of its own.
_KEPT = ("contentType", "cacheControl", "contentDisposition", "contentEncoding", "metadata", "storageClass")


@frozen
class Resource:
    """An object, as the JSON API tells of it."""

    fields: Mapping[str, Any]

    @property
    def generation(self) -> str:
        """What tells this object from all others that the key ever had."""
        return str(self.fields["generation"])

    @property
    def key(self) -> str:
        """The object's key."""
        return str(self.fields.get("name", ""))

    @property
    def size(self) -> int:
        """Length in bytes."""
        return int(self.fields["size"])

    @property
    def crc32c(self) -> int | None:
        """The CRC32C of its bytes; None if it is not told."""
        return decode_crc32c(self.fields.get("crc32c"))

    @property
    def etag(self) -> str:
        """The ETag of the JSON API, which is another than the XML API's."""
        return str(self.fields.get("etag", ""))

    @property
    def created(self) -> float | None:
        """When it was stored, in seconds since the epoch; None if that is not told."""
        try:
            return datetime.fromisoformat(str(self.fields.get("timeCreated")).replace("Z", "+00:00")).timestamp()
        except ValueError:
            return None

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata; names are in lower case."""
        said = self.fields.get("metadata")
        return said if isinstance(said, dict) else {}

    @property
    def moved_fields(self) -> dict[str, Any]:
        """What is taken along when it is moved: nothing that tells of the multipart upload that it was made by."""
        kept = {name: self.fields[name] for name in _KEPT if name in self.fields}
        metadata = without_marks(self.metadata)
        return {**kept, "metadata": metadata} if metadata else {n: v for n, v in kept.items() if n != "metadata"}

    def is_copy_of(self, other: Resource) -> bool:
        """Say whether one was moved from the other: same bytes, and same metadata, in which every upload has a token."""
        mine, theirs = (
            [each.fields.get("size"), each.fields.get("crc32c"), each.moved_fields.get("metadata")]
            for each in (self, other)
        )
        return mine == theirs and None not in mine

    @property
    def key_name(self) -> str | None:
        """The name of the KMS key, without its version."""
        name = self.fields.get("kmsKeyName")
        return str(name).partition("/cryptoKeyVersions/")[0] if name else None


class Resources:
    """Makes calls of the JSON API.

    :param calls: their addresses end with `PATH` and the bucket.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def find(self, bucket: str, key: str) -> Resource | None:
        """Return the object under the key, or None if the store itself says that there is none."""
        call = Call("GetObjectResource", "GET", bucket, path=_path(key), check=_described, limit=PAGE_LIMIT)
        try:
            return Resource(_read(await self._calls.make(call)))
        except NotFound:
            return None

    async def list_folders(self, bucket: str, prefix: str) -> list[str]:
        """Return what the keys that begin with the prefix have behind it, up to the next slash. Each is told once."""
        found: list[str] = []
        query = {"delimiter": "/", "prefix": prefix, "projection": "noAcl"}
        async for page in self._pages(bucket, query):
            found += [str(one)[len(prefix) :].rstrip("/") for one in page.get("prefixes", ())]
        return found

    async def list(self, bucket: str, prefix: str) -> list[Resource]:
        """Return all objects whose keys begin with the prefix, across pages."""
        found: list[Resource] = []
        async for page in self._pages(bucket, {"prefix": prefix, "projection": "noAcl"}):
            found += [Resource(one) for one in page.get("items", ())]
        return found

    async def _pages(self, bucket: str, query: dict[str, str]) -> AsyncIterator[dict[str, Any]]:
        """Yield the pages of a listing."""
        while True:
            call = Call("ListObjectResources", "GET", bucket, None, _encode(query), path="/o", check=_listed)
            call.limit = PAGE_LIMIT
            page = _read(await self._calls.make(call))
            yield page
            following = page.get("nextPageToken")
            if not following:
                return
            if query.get("pageToken") == following:
                raise StoreUnavailable("MalformedAnswer", "a listing that does not go on", 200)
            query["pageToken"] = following

    async def move(
        self, bucket: str, source: Resource, key: str, target: str, *, acl: str, overwrite: bool, fence: Fence | None
    ) -> Resource:
        """Copy the object to another key of the bucket, within the store, and return what is there then.

        What was there before is replaced as a whole and at once, or not at all.

        :param acl: canned ACL, in the XML API's words; empty for the bucket's own.
        :raises PreconditionFailed: `overwrite` is false, and the target is taken.
        :raises NotFound: the source is gone.
        """
        query = _placing(acl=acl, overwrite=overwrite, kms_key=source.key_name)
        place = bucket, target
        return await self._rewrite(
            (bucket, key), source.generation, place, source.moved_fields, query, fence, again=True
        )

    async def copy(
        self,
        source: tuple[str, str],
        generation: str,
        target: tuple[str, str],
        fields: Mapping[str, Any],
        *,
        kms_key: str | None,
    ) -> Resource:
        """Copy an object within the store, and return the copy.

        :param source: bucket and key; so is `target`, which is replaced.
        :param generation: the one that the source has to have.
        :param fields: what the copy is made with. Nothing is taken over from the source.
        :raises NotFound: the source is gone, or is another generation.
        """
        query = _placing(acl="", overwrite=True, kms_key=kms_key)
        return await self._rewrite(source, generation, target, fields, query, None)

    async def _rewrite(
        self,
        source: tuple[str, str],
        generation: str,
        target: tuple[str, str],
        fields: Mapping[str, Any],
        query: dict[str, str],
        fence: Fence | None,
        *,
        again: bool = False,
    ) -> Resource:
        query = {"sourceGeneration": generation, "projection": "noAcl", **query}
        body = json.dumps(fields).encode()
        path = f"{_path(source[1])}/rewriteTo/b/{quote(target[0], safe='')}{_path(target[1])}"
        for _ in range(MOST_CALLS):
            call = Call(
                *(
                    "RewriteObject",
                    "POST",
                    source[0],
                    None,
                    _encode(query),
                    {"Content-Type": "application/json"},
                    [body],
                ),
                path=path,
                answer=REWRITE,
                check=_rewritten,
                limit=PAGE_LIMIT,
            )
            said = _read(await self._calls.make(call, fence=fence, again=again))
            if said["done"]:
                return Resource(said["resource"])
            query["rewriteToken"] = said["rewriteToken"]
        raise StoreUnavailable("MalformedAnswer", "a rewrite that does not end", 200)

    async def compose(
        self,
        bucket: str,
        sources: Sequence[tuple[str, str]],
        target: str,
        fields: Mapping[str, Any],
        *,
        kms_key: str | None,
        acl: str = "",
        overwrite: bool = True,
        fence: Fence | None = None,
    ) -> Resource:
        """Make an object of the bytes of others, one after the other, within the store.

        :param sources: key and generation of each: from 1 to `MOST_SOURCES`, all of one storage class, which is the
            object's too.
        :param target: the key, which is replaced as a whole and at once, or not at all.
        :param fields: what the object is made with, but for its storage class.
        :raises PreconditionFailed: `overwrite` is false, and the target is taken.
        :raises NotFound: a source is gone, or is another generation.
        """
        said = {
            "sourceObjects": [{"name": name, "generation": generation} for name, generation in sources],
            "destination": {name: value for name, value in fields.items() if name != "storageClass"},
        }
        query = _placing(acl=acl, overwrite=overwrite, kms_key=None)
        if kms_key is not None:
            query["kmsKeyName"] = kms_key
        call = Call(
            *("ComposeObject", "POST", bucket, None, _encode(query), {"Content-Type": "application/json"}),
            body=[json.dumps(said).encode()],
            path=f"{_path(target)}/compose",
            answer=REWRITE,
            check=_described,
            limit=PAGE_LIMIT,
        )
        return Resource(_read(await self._calls.make(call, fence=fence)))


def _placing(*, acl: str, overwrite: bool, kms_key: str | None) -> dict[str, str]:
    """Return the query that says how an object is placed under its key."""
    query = {} if overwrite else {"ifGenerationMatch": "0"}
    if acl:
        query["destinationPredefinedAcl"] = _camel(acl)
    if kms_key is not None:
        query["destinationKmsKeyName"] = kms_key
    return query


def _path(key: str) -> str:
    """Return an object's path below its bucket's. Slashes in its name are encoded too."""
    return f"/o/{quote(key, safe='~')}"


def _encode(query: Mapping[str, str]) -> str:
    return "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


def _camel(acl: str) -> str:
    """Return ``publicRead`` for ``public-read``."""
    first, *others = acl.split("-")
    return first + "".join(other.capitalize() for other in others)


def _read(reply: Reply) -> dict[str, Any]:
    """Return the answer's object; an empty one if it is none."""
    try:
        found = json.loads(b"".join(reply.answer.segments))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_resource(found: Any) -> bool:
    return isinstance(found, dict) and bool(found.get("generation")) and str(found.get("size")).isdecimal()


def _listed(reply: Reply) -> CallFailure | None:
    # Without objects there is no list of them; but every listing says what it is.
    said = _read(reply)
    items, folders = said.get("items", []), said.get("prefixes", [])
    whole = said.get("kind") == "storage#objects" and isinstance(items, list) and isinstance(folders, list)
    whole = whole and all(map(_is_resource, items))
    return None if whole else lacking("list of objects", reply)


def _described(reply: Reply) -> CallFailure | None:
    return None if _is_resource(_read(reply)) else lacking("generation and size", reply)


def _rewritten(reply: Reply) -> CallFailure | None:
    said = _read(reply)
    if said.get("done") is True:
        return None if _is_resource(said.get("resource")) else lacking("resource", reply)
    return None if said.get("done") is False and said.get("rewriteToken") else lacking("rewriteToken", reply)
