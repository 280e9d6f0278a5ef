"""What the sink remembers, and what it answers.

Object bodies are counted and dropped, unless the sink is told to keep them. What servers store for themselves and read
back is kept: small objects (the state of an upload), and pieces of uploads that broke off, unless those are to be
dropped too. A dropped body is read as zeros.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping
from itertools import count
from urllib.parse import unquote
from xml.sax.saxutils import escape

from attrs import define, field, frozen
from crc32c import crc32c

from bench.sink.operations import BODIES, operation

#: Bytes up to which a body is always kept.
SMALL = 65536
#: Matches the keys of pieces: this project's fragments, and the incomplete parts of the tus servers.
PIECE = re.compile(r"/\.resumable/|\.part\Z")
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
LAST_MODIFIED = "2026-01-01T00:00:00.000Z"


@frozen
class Request:
    """A request whose body has been read (and perhaps dropped)."""

    method: str
    #: The path, percent-decoded, without the query.
    path: str
    query: Mapping[str, str]
    #: Lower-case names.
    headers: Mapping[str, str]
    #: Bytes of the object in the body.
    size: int = 0
    #: The body, if it was kept.
    body: bytes | None = b""


@frozen
class Response:
    """An answer. `size` is the Content-Length where it differs from the body's (HEAD, and bodies of zeros)."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)
    zeros: int = 0
    #: Seconds to wait before the answer is sent.
    delay: float = 0.0


@define
class Stored:
    """An object or a part."""

    size: int
    etag: str
    body: bytes | None
    metadata: dict[str, str] = field(factory=dict)
    #: The CRC32C that came with it, in base64. It is not checked.
    crc32c: str | None = None

    @property
    def told(self) -> dict[str, str]:
        """Return the headers of the answer to the request that stored it.

        Like S3, they repeat the checksum that came with it.
        """
        return {"ETag": self.etag, **({} if self.crc32c is None else {"x-amz-checksum-crc32c": self.crc32c})}


@define
class Multipart:
    """An open multipart upload."""

    key: str
    metadata: dict[str, str]
    parts: dict[int, Stored] = field(factory=dict)


class State:
    """Objects, multipart uploads and counts. Every bucket name means the same one bucket."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything, count from zero, keep nothing, answer at once."""
        self.counts: Counter[str] = Counter()
        self.bytes = 0
        self.keep = False
        self.delay = 0.0
        #: Whether objects are only counted. Pieces of uploads are remembered all the same.
        self.forget = False
        #: Whether pieces of uploads are dropped: for clients that send zeros.
        self.drop = False
        self._objects: dict[str, Stored] = {}
        self._uploads: dict[str, Multipart] = {}
        self._ids = count(1)

    def keeps(self, path: str, size: int) -> bool:
        """Say whether a body of `size` bytes for `path` is to be kept."""
        return self.keep or size <= SMALL or (not self.drop and PIECE.search(path) is not None)

    def answer(self, request: Request) -> Response:
        """Do what the request asks, and count it."""
        _, bucket, *rest = [*request.path.split("/", 2), ""]
        key = rest[0]
        name = operation(request.method, key, request.query, copies="x-amz-copy-source" in request.headers)
        self.counts[name] += 1
        delay = 0.0
        if name in BODIES:
            self.bytes += request.size
            delay = self.delay
        answer = getattr(self, f"_{name}", None)
        response: Response = answer(bucket, key, request) if answer else Response(200)
        return Response(response.status, response.body, response.headers, response.zeros, delay)

    def digest(self, key: str) -> str:
        """Return ``SIZE CRC32`` of a kept object, to check what has arrived, or ``SIZE dropped``."""
        stored = self._objects.get(key)
        if stored is None:
            return "none"
        return f"{stored.size} dropped" if stored.body is None else f"{stored.size} {zlib.crc32(stored.body)}"

    def _store(self, request: Request) -> Stored:
        metadata = {name: value for name, value in request.headers.items() if name.startswith("x-amz-meta-")}
        crc32c = request.headers.get("x-amz-checksum-crc32c")
        return Stored(request.size, f'"{next(self._ids):032x}"', request.body, metadata, crc32c)

    def _PutObject(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._store(request)
        self._enter(key, stored)
        return Response(200, headers=stored.told)

    def _enter(self, key: str, stored: Stored) -> None:
        """Remember an object, unless it is one of those that are to be forgotten."""
        if not self.forget or PIECE.search("/" + key):
            self._objects[key] = stored

    def _CopyObject(self, bucket: str, key: str, request: Request) -> Response:
        source = _source(request)
        if source not in self._objects:
            return _error(404, "NoSuchKey")
        stored = self._objects[key] = self._objects[source]
        return _document("CopyObjectResult", f"<ETag>{stored.etag}</ETag><LastModified>{LAST_MODIFIED}</LastModified>")

    def _GetObject(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._objects.get(key)
        if stored is None:
            return _error(404, "NoSuchKey")
        first, end = _range(request.headers.get("range", ""), stored.size)
        headers = {"ETag": stored.etag, **stored.metadata}
        status = 200
        if end - first != stored.size:
            status = 206
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{stored.size}"
        if stored.body is None:
            return Response(status, headers=headers, zeros=end - first)
        return Response(status, stored.body[first:end], headers)

    def _HeadObject(self, bucket: str, key: str, request: Request) -> Response:
        stored = self._objects.get(key)
        if stored is None:
            return Response(404)
        return Response(200, headers={"ETag": stored.etag, **stored.metadata}, zeros=stored.size)

    def _DeleteObject(self, bucket: str, key: str, request: Request) -> Response:
        self._objects.pop(key, None)
        return Response(204)

    def _DeleteObjects(self, bucket: str, key: str, request: Request) -> Response:
        for name in re.findall(r"<Key>(.*?)</Key>", (request.body or b"").decode()):
            self._objects.pop(name, None)
        return _document("DeleteResult", "")

    def _ListObjectsV2(self, bucket: str, key: str, request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        found = sorted(name for name in self._objects if name.startswith(prefix))[:1000]
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><LastModified>{LAST_MODIFIED}</LastModified>"
            f"<ETag>{self._objects[name].etag}</ETag><Size>{self._objects[name].size}</Size></Contents>"
            for name in found
        )
        return _document("ListBucketResult", f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{contents}")

    def _CreateMultipartUpload(self, bucket: str, key: str, request: Request) -> Response:
        upload_id = f"upload-{next(self._ids)}"
        metadata = {name: value for name, value in request.headers.items() if name.startswith("x-amz-meta-")}
        self._uploads[upload_id] = Multipart(key, metadata)
        inner = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
        return _document("InitiateMultipartUploadResult", inner)

    def _UploadPart(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        stored = upload.parts[int(request.query["partNumber"])] = self._store(request)
        return Response(200, headers=stored.told)

    def _UploadPartCopy(self, bucket: str, key: str, request: Request) -> Response:
        upload, found = self._uploads.get(request.query["uploadId"]), self._objects.get(_source(request))
        if upload is None or found is None:
            return _error(404, "NoSuchUpload" if upload is None else "NoSuchKey")
        first, end = _range(request.headers.get("x-amz-copy-source-range", ""), found.size)
        body = None if found.body is None else found.body[first:end]
        # (Without a checksum: nobody has told that of the bytes.)
        part = upload.parts[int(request.query["partNumber"])] = Stored(end - first, f'"{next(self._ids):032x}"', body)
        return _document("CopyPartResult", f"<ETag>{part.etag}</ETag><LastModified>{LAST_MODIFIED}</LastModified>")

    def _ListParts(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.get(request.query["uploadId"])
        if upload is None:
            return _error(404, "NoSuchUpload")
        after = int(request.query.get("part-number-marker") or 0)
        most = int(request.query.get("max-parts") or 1000)
        numbers = sorted(number for number in upload.parts if number > after)
        shown = numbers[:most]
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><LastModified>{LAST_MODIFIED}</LastModified>"
            f"<ETag>{upload.parts[number].etag}</ETag><Size>{upload.parts[number].size}</Size></Part>"
            for number in shown
        )
        more = "true" if len(numbers) > len(shown) else "false"
        last = shown[-1] if shown else after
        paging = f"<IsTruncated>{more}</IsTruncated><NextPartNumberMarker>{last}</NextPartNumberMarker>"
        head = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{request.query['uploadId']}</UploadId>"
        return _document("ListPartsResult", head + paging + parts)

    def _CompleteMultipartUpload(self, bucket: str, key: str, request: Request) -> Response:
        upload = self._uploads.pop(request.query["uploadId"], None)
        if upload is None:
            return _error(404, "NoSuchUpload")
        parts = [upload.parts[number] for number in sorted(upload.parts)]
        bodies = [part.body for part in parts if part.body is not None]
        body = b"".join(bodies) if len(bodies) == len(parts) else None
        etag = f'"{next(self._ids):032x}-{len(parts)}"'
        self._enter(key, Stored(sum(part.size for part in parts), etag, body, upload.metadata))
        where = f"<Location>http://{bucket}/{escape(key)}</Location><Bucket>{bucket}</Bucket><Key>{escape(key)}</Key>"
        return _document("CompleteMultipartUploadResult", f"{where}<ETag>{etag}</ETag>{_composite(parts)}")

    def _AbortMultipartUpload(self, bucket: str, key: str, request: Request) -> Response:
        self._uploads.pop(request.query["uploadId"], None)
        return Response(204)

    def _ListMultipartUploads(self, bucket: str, key: str, request: Request) -> Response:
        prefix = request.query.get("prefix", "")
        uploads = "".join(
            f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId></Upload>"
            for upload_id, upload in self._uploads.items()
            if upload.key.startswith(prefix)
        )
        return _document("ListMultipartUploadsResult", f"<IsTruncated>false</IsTruncated>{uploads}")


def _source(request: Request) -> str:
    """Return the key of the object that is to be copied."""
    return unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("/")[2]


def _range(header: str, size: int) -> tuple[int, int]:
    """Return the first byte and the end (exclusive) of what a Range header asks for."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header)
    if not found:
        return 0, size
    first = int(found[1])
    return first, min(size, int(found[2]) + 1 if found[2] else size)


def _document(root: str, inner: str) -> Response:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} {NAMESPACE}>{inner}</{root}>'.encode()
    return Response(200, body, {"Content-Type": "application/xml"})


def _error(status: int, code: str) -> Response:
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
    )
    return Response(status, body, {"Content-Type": "application/xml"})


def _composite(parts: list[Stored]) -> str:
    """Return the checksum of the parts' checksums, as S3 gives it if each part has one."""
    known = [part.crc32c for part in parts if part.crc32c is not None]
    if len(known) < len(parts):
        return ""
    whole = crc32c(b"".join(map(b64decode, known))).to_bytes(4, "big")
    return f"<ChecksumCRC32C>{b64encode(whole).decode()}-{len(parts)}</ChecksumCRC32C>"
