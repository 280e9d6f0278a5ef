"""A store that speaks S3 and has habits of its own, in memory and on a real socket: as strict as its makers say it is."""

from __future__ import annotations

import hashlib
import re
import time
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

from attrs import define, field, frozen
from twisted.internet import reactor
from twisted.internet.defer import maybeDeferred
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

R: Any = reactor
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


@frozen(kw_only=True)
class Strictness:
    """What the store refuses or leaves out.

    :ivar smallest: the fewest bytes of a part that is not the last.
    :ivar lists: which multipart uploads it lists: those whose keys begin with the prefix (``all``), the one whose key is the
        prefix (``key``), those in a folder (``folders``), or it does not know listings (``none``).
    :ivar bare: whether its listings of objects hold keys alone.
    :ivar region: the only one that requests may be signed for.
    """

    smallest: int = 10
    parts: int = 10_000
    equal: bool = False
    checksums: bool = True
    tags: bool = True
    copies: bool = True
    lists: str = "all"
    bare: bool = False
    region: str = ""


@define
class Multipart:
    key: str
    headers: dict[str, str]
    initiated: float
    parts: dict[int, bytes] = field(factory=dict)


class Refusal(Exception):
    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(code)
        self.status, self.code, self.message = status, code, message


class HabitualStore(Resource):
    """The server.

    :ivar lost: operations whose next answers are lost after the work is done, each once.
    :ivar refusals: what is said to the next request for an operation (operation, status, code), each once.
    :ivar calls: what was asked, in order.
    """

    isLeaf = True

    def __init__(self, strictness: Strictness) -> None:
        super().__init__()
        self.strictness = strictness
        self.objects: dict[str, tuple[bytes, dict[str, str], float]] = {}
        self.multiparts: dict[str, Multipart] = {}
        self.lost: list[str] = []
        self.refusals: list[tuple[str, int, str]] = []
        self.calls: list[str] = []
        self._opened = 0
        self.port = R.listenTCP(0, Site(self), interface="127.0.0.1")
        self.endpoint = f"http://127.0.0.1:{self.port.getHost().port}"

    async def close(self) -> None:
        await maybeDeferred(self.port.stopListening)

    def render(self, request: Request) -> Any:
        assert request.content is not None
        _, _bucket, *rest = unquote(request.path.decode()).split("/", 2)
        key = rest[0] if rest else ""
        query = {name.decode(): values[0].decode() for name, values in (request.args or {}).items()}
        for name in (request.uri.partition(b"?")[2]).decode().split("&"):
            query.setdefault(name.partition("=")[0], "")
        headers = {
            name.decode().lower(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        name = _operation(request.method.decode(), key, query, headers)
        self.calls.append(name)
        try:
            for refusal in [each for each in self.refusals if each[0] == name][:1]:
                self.refusals.remove(refusal)
                raise Refusal(*refusal[1:])
            self._check(headers)
            body = getattr(self, f"_{name}")(request, key, query, headers, request.content.read())
        except Refusal as refused:
            request.setResponseCode(refused.status)
            body = f"<Error><Code>{refused.code}</Code><Message>{refused.message}</Message></Error>".encode()
        if name in self.lost:
            self.lost.remove(name)
            request.transport.abortConnection()  # type: ignore[union-attr]
            return NOT_DONE_YET
        request.setHeader("Content-Length", str(len(body)))
        return b"" if request.method == b"HEAD" else body

    def _check(self, headers: dict[str, str]) -> None:
        strict = self.strictness
        sums = [name for name in headers if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum"))]
        if sums and not strict.checksums:
            raise Refusal(400, "InvalidArgument", f"Unsupported header '{sums[0]}' received for this API call.")
        if "x-amz-tagging" in headers and not strict.tags:
            raise Refusal(501, "NotImplemented", "Header 'x-amz-tagging' with value '...' not implemented")
        found = re.search(r"Credential=[^/]+/\d+/([^/]+)/s3/", headers.get("authorization", ""))
        if strict.region and (found is None or found[1] != strict.region):
            raise Refusal(400, "AuthorizationHeaderMalformed", f"expecting '{strict.region}'")

    def _PutObject(self, request: Request, key: str, query: Any, headers: dict[str, str], body: bytes) -> bytes:
        self.objects[key] = (body, headers, time.time())
        request.setHeader("ETag", f'"{_etag(body)}"')
        return b""

    def _GetObject(self, request: Request, key: str, query: Any, headers: dict[str, str], body: bytes) -> bytes:
        if key not in self.objects:
            raise Refusal(404, "NoSuchKey")
        data, created_with, modified = self.objects[key]
        etag = f'"{_etag(data)}"'
        if headers.get("if-match", etag) != etag:
            raise Refusal(412, "PreconditionFailed")
        for name, value in created_with.items():
            if name.startswith("x-amz-meta-"):
                request.setHeader(name, value)
        request.setHeader("ETag", etag)
        request.setLastModified(modified)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("range", ""))
        if wanted is None:
            return data
        first, last = int(wanted[1]), min(int(wanted[2]), len(data) - 1)
        if first > last:
            raise Refusal(416, "InvalidRange")
        request.setResponseCode(206)
        request.setHeader("Content-Range", f"bytes {first}-{last}/{len(data)}")
        return data[first : last + 1]

    _HeadObject = _GetObject

    def _DeleteObject(self, request: Request, key: str, *_: Any) -> bytes:
        self.objects.pop(key, None)
        request.setResponseCode(204)
        return b""

    def _DeleteObjects(self, request: Request, key: str, query: Any, headers: Any, body: bytes) -> bytes:
        for each in re.findall(r"<Key>(.*?)</Key>", body.decode()):
            self.objects.pop(each, None)
        return f"<DeleteResult {NAMESPACE}><Deleted/></DeleteResult>".encode()

    def _ListObjects(self, request: Request, key: str, query: dict[str, str], *_: Any) -> bytes:
        entries = []
        for each, (data, _headers, modified) in sorted(self.objects.items()):
            if each.startswith(query.get("prefix", "")):
                more = (
                    f"<Size>{len(data)}</Size><LastModified>{_date(modified)}</LastModified><ETag>{_etag(data)}</ETag>"
                )
                entries.append(f"<Contents><Key>{escape(each)}</Key>{'' if self.strictness.bare else more}</Contents>")
        return f"<ListBucketResult {NAMESPACE}><Name>b</Name>{''.join(entries)}</ListBucketResult>".encode()

    def _CreateMultipartUpload(self, request: Request, key: str, query: Any, headers: Any, body: bytes) -> bytes:
        self._opened += 1
        self.multiparts[f"m{self._opened}"] = Multipart(key, headers, time.time())
        result = f"<UploadId>m{self._opened}</UploadId>"
        return f"<InitiateMultipartUploadResult {NAMESPACE}>{result}</InitiateMultipartUploadResult>".encode()

    def _multipart(self, query: dict[str, str]) -> Multipart:
        if query["uploadId"] not in self.multiparts:
            raise Refusal(404, "NoSuchUpload")
        return self.multiparts[query["uploadId"]]

    def _UploadPart(self, request: Request, key: str, query: dict[str, str], headers: Any, body: bytes) -> bytes:
        number, multipart = int(query["partNumber"]), self._multipart(query)
        if number > self.strictness.parts:
            raise Refusal(
                400, "InvalidArgument", f"Part number must be an integer between 1 and {self.strictness.parts}"
            )
        multipart.parts[number] = body
        request.setHeader("ETag", f'"{_etag(body)}"')
        return b""

    def _UploadPartCopy(self, request: Request, key: str, query: dict[str, str], headers: Any, body: bytes) -> bytes:
        if not self.strictness.copies:
            raise Refusal(501, "NotImplemented", "UploadPartCopy not implemented")
        data = self.objects[unquote(headers["x-amz-copy-source"]).partition("/")[2]][0]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", headers.get("x-amz-copy-source-range", ""))
        part = data if wanted is None else data[int(wanted[1]) : int(wanted[2]) + 1]
        self._multipart(query).parts[int(query["partNumber"])] = part
        return f"<CopyPartResult {NAMESPACE}><ETag>{_etag(part)}</ETag></CopyPartResult>".encode()

    def _CompleteMultipartUpload(
        self, request: Request, key: str, query: dict[str, str], headers: Any, body: bytes
    ) -> bytes:
        multipart, strict = self._multipart(query), self.strictness
        named = re.findall(r"<PartNumber>(\d+)</PartNumber><ETag>\"?([0-9a-f]+)\"?</ETag>", body.decode())
        if not named or any(_etag(multipart.parts.get(int(number), b"")) != etag for number, etag in named):
            raise Refusal(400, "InvalidPart")
        parts = [multipart.parts[int(number)] for number, _ in named]
        if len(parts) > strict.parts:
            raise Refusal(400, "InvalidArgument", "too many parts")
        if any(len(part) < strict.smallest for part in parts[:-1]):
            raise Refusal(400, "EntityTooSmall")
        # The last one is no larger than the others, either.
        if strict.equal and (len({len(part) for part in parts[:-1]}) > 1 or len(parts[-1]) > len(parts[0])):
            raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
        data = b"".join(parts)
        del self.multiparts[query["uploadId"]]
        self.objects[key] = (data, multipart.headers, time.time())
        result = f"<ETag>{_etag(data)}</ETag>"
        return f"<CompleteMultipartUploadResult {NAMESPACE}>{result}</CompleteMultipartUploadResult>".encode()

    def _AbortMultipartUpload(self, request: Request, key: str, query: dict[str, str], *_: Any) -> bytes:
        self._multipart(query)
        del self.multiparts[query["uploadId"]]
        request.setResponseCode(204)
        return b""

    def _ListParts(self, request: Request, key: str, query: dict[str, str], *_: Any) -> bytes:
        parts = [
            f"<Part><PartNumber>{number}</PartNumber><ETag>{_etag(data)}</ETag><Size>{len(data)}</Size></Part>"
            for number, data in sorted(self._multipart(query).parts.items())
        ]
        return f"<ListPartsResult {NAMESPACE}><Key>k</Key>{''.join(parts)}</ListPartsResult>".encode()

    def _ListMultipartUploads(self, request: Request, key: str, query: dict[str, str], *_: Any) -> bytes:
        prefix, lists = query.get("prefix", ""), self.strictness.lists
        if lists == "none":
            raise Refusal(501, "NotImplemented")
        if lists == "folders" and prefix and not prefix.endswith("/"):
            raise Refusal(501, "NotImplemented", "prefixes have to end with a slash")
        found = [
            f"<Upload><Key>{escape(each.key)}</Key><UploadId>{name}</UploadId><Initiated>{_date(each.initiated)}</Initiated>"
            "</Upload>"
            for name, each in self.multiparts.items()
            if (each.key == prefix if lists == "key" else each.key.startswith(prefix))
        ]
        return (
            f"<ListMultipartUploadsResult {NAMESPACE}><Bucket>b</Bucket>{''.join(found)}</ListMultipartUploadsResult>"
        ).encode()

    def _HeadBucket(self, *_: Any) -> bytes:
        return b""


def _operation(method: str, key: str, query: dict[str, str], headers: dict[str, str]) -> str:
    if not key:
        if "uploads" in query:
            return "ListMultipartUploads"
        return "DeleteObjects" if method == "POST" else "HeadBucket" if method == "HEAD" else "ListObjects"
    if "uploads" in query:
        return "CreateMultipartUpload"
    if "uploadId" in query:
        put = "UploadPartCopy" if "x-amz-copy-source" in headers else "UploadPart"
        return {
            "PUT": put,
            "POST": "CompleteMultipartUpload",
            "GET": "ListParts",
            "DELETE": "AbortMultipartUpload",
        }[method]
    return {"PUT": "PutObject", "GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}[method]


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")
