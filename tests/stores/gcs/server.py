"""Google Cloud Storage for tests: its XML API, the calls of its JSON API that are needed, and a token endpoint.

Written after Google's documents ("XML API multipart uploads", "POST Object", "PUT Object", "HTTP status and error codes",
"Objects: rewrite" and "compose", "V4 signing process", "Using OAuth 2.0 for server to server applications") and what tests of
googleapis/java-storage expect of the real one. What the real one refuses is refused here. It runs in a thread, so that a
client that blocks can ask it too.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from collections import Counter, deque
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from attrs import define, field, frozen
from crc32c import crc32c
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from twisted.internet import reactor
from typing_extensions import Self

from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.tokens import Tokens

EMAIL = "tester@project.iam.gserviceaccount.com"
S3_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
LISTING_NAMESPACE = "http://doc.s3.amazonaws.com/2006-03-01"
PAGE = 1000
ACLS = {
    *("private", "public-read", "project-private", "authenticated-read"),
    *("bucket-owner-read", "bucket-owner-full-control"),
}
#: Headers that an object keeps -> their names in the JSON API.
KEPT = {
    "content-type": "contentType",
    "cache-control": "cacheControl",
    "content-disposition": "contentDisposition",
    "content-encoding": "contentEncoding",
}


class Refusal(Exception):
    """What a request is refused with, in the form of the API that was asked."""

    def __init__(self, status: int, code: str, message: str = "no") -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


@frozen
class Stored:
    """An object."""

    data: bytes
    headers: dict[str, str]
    metadata: dict[str, str]
    generation: int
    storage_class: str
    acl: str
    kms_key: str | None
    multipart: bool
    modified: float = field(factory=time.time)

    @property
    def crc32c(self) -> str:
        return b64encode(crc32c(self.data).to_bytes(4, "big")).decode()

    @property
    def etag(self) -> str:
        return f"-{self.generation}" if self.multipart else hashlib.md5(self.data).hexdigest()


@define
class Multipart:
    key: str
    options: dict[str, str]
    initiated: float
    parts: dict[int, tuple[bytes, str]] = field(factory=dict)


@frozen
class Fault:
    """What befalls a request.

    :ivar name: of the operation, as `Asked.name` has it; ``*`` for any.
    :ivar status: answered in place of the answer, without a document of the store's; 0: the connection ends.
    :ivar done: whether the request takes effect all the same: its answer is lost.
    :ivar code: the code of a document that the answer has after all.
    :ivar then: called when the time has come: before the request is answered, and after it has taken effect.
    """

    name: str
    status: int = 0
    done: bool = False
    code: str = ""
    then: Callable[[], object] | None = None


@frozen
class Asked:
    """A request, as it came."""

    name: str
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class GcsServer:
    """The server, between ``__enter__`` and ``__exit__``, with a bucket in it.

    :ivar faults: the first that matches befalls a request, and is then gone.
    :ivar passing: how many requests that a fault's name means are left alone before that.
    :ivar asked: the requests so far.
    :ivar lifetime: seconds for which new tokens are valid.
    :ivar rewrite_calls: how many calls a rewrite takes.
    :ivar smallest_part: the fewest bytes of a part that is not the last.
    :ivar page: how many entries a listing of the JSON API has.
    """

    name: ClassVar[str] = "gcs"
    #: What of S3 there is not.
    lacks: ClassVar[frozenset[str]] = frozenset({"tags", "MD5"})
    bucket = "bucket"

    def __init__(self) -> None:
        self.private_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.reset()

    def reset(self) -> None:
        """Forget everything, but for the tokens."""
        self.lock = threading.RLock()
        self.buckets: dict[str, dict[str, Stored]] = {self.bucket: {}}
        self.multiparts: dict[str, Multipart] = {}
        self.rewrites: dict[str, int] = {}
        self.faults: deque[Fault] = deque()
        self.passing: Counter[str] = Counter()
        self.asked: list[Asked] = []
        self.denied: set[str] = set()
        self.lifetime = 3600
        self.refuses_tokens = False
        self.rewrite_calls = 1
        self.smallest_part = 5 << 20
        self.page = PAGE
        self.tokens: dict[str, float] = getattr(self, "tokens", {})
        self.count = getattr(self, "count", 1_700_000_000_000_000)

    def __enter__(self) -> Self:
        self._directory = TemporaryDirectory(prefix="gcs-")
        handler = type("Handler", (Handler,), {"store": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self.key = self._write_key(Path(self._directory.name))
        # One for all: most tests need not get a token.
        self.signer = Tokens(reactor, str(self.key))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._directory.cleanup()
        self._server.shutdown()
        self._server.server_close()

    # What tests ask

    def client(self, **options: Any) -> GcsStore:
        """A client of the service's own, which does not wait long."""
        given: dict[str, Any] = {"signer": self.signer, "patience": 2.0, "pauses": (0.01, 0.02)}
        return GcsStore(reactor, endpoint=self.endpoint, **{**given, **options})

    def _write_key(self, directory: Path) -> Path:
        """Write the service account's key file; return where it is."""
        pem = self.private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        info = {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": "1",
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "client_id": "1",
            "token_uri": f"{self.endpoint}/token",
        }
        path = directory / "key.json"
        path.write_text(json.dumps(info))
        return path

    def read(self, key: str) -> bytes:
        """The object's bytes."""
        return self.buckets[self.bucket][key].data

    def described(self, key: str) -> dict[str, Any]:
        """The object's headers, by the names that boto3 gives them."""
        headers = self.buckets[self.bucket][key].headers
        return {name.title().replace("-", ""): value for name, value in headers.items()}

    def names(self) -> list[str]:
        """The operations so far."""
        return [one.name for one in self.asked]

    # What happens

    def next_count(self) -> int:
        self.count += 1
        return self.count

    def grant(self, assertion: str) -> dict[str, Any]:
        """Return a token for an assertion (RFC 7523), whose signature, audience and time are checked."""
        signed, _, signature = assertion.rpartition(".")
        try:
            self.private_key.public_key().verify(
                _decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except InvalidSignature:
            raise Refusal(400, "invalid_grant", "Invalid JWT Signature.") from None
        claims = json.loads(_decode(signed.partition(".")[2]))
        if claims["iss"] != EMAIL or claims["aud"] not in (
            f"{self.endpoint}/token",
            "https://oauth2.googleapis.com/token",
        ):
            raise Refusal(400, "invalid_grant", "not for here")
        if not claims["iat"] <= time.time() + 60 < claims["exp"] + 120 or not claims.get("scope"):
            raise Refusal(400, "invalid_scope", "no scope, or not now")
        return self._new_token()

    def exchange(self, form: dict[str, str]) -> dict[str, Any]:
        """Return a token for one of somebody else's (RFC 8693), as workload identity federation does."""
        if form.get("subject_token") != "theirs" or not form.get("audience") or not form.get("scope"):
            raise Refusal(400, "invalid_grant", "not a token that is trusted")
        return {**self._new_token(), "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}

    def _new_token(self) -> dict[str, Any]:
        with self.lock:
            token = f"ya29.{self.next_count()}"
            self.tokens[token] = time.time() + self.lifetime
        return {"access_token": token, "expires_in": self.lifetime, "token_type": "Bearer"}

    def check_token(self, header: str | None) -> None:
        kind, _, token = (header or "").partition(" ")
        if self.refuses_tokens or kind != "Bearer" or self.tokens.get(token, 0.0) < time.time():
            raise Refusal(401, "AuthenticationRequired", "Authentication required.")

    def check_signature(self, method: str, path: str, query: dict[str, str], host: str) -> None:
        """Check a URL that was signed (V4)."""
        given = dict(query)
        signature = bytes.fromhex(given.pop("X-Goog-Signature"))
        stamp, seconds = given["X-Goog-Date"], int(given["X-Goog-Expires"])
        began = time.mktime(time.strptime(stamp, "%Y%m%dT%H%M%SZ")) - time.timezone
        if not 0 < seconds <= 604800 or time.time() > began + seconds:
            raise Refusal(400, "ExpiredToken", "The provided token has expired.")
        canonical = "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in sorted(given.items()))
        request = f"{method}\n{path}\n{canonical}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        text = f"GOOG4-RSA-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        if given["X-Goog-Credential"] != f"{EMAIL}/{scope}":
            raise Refusal(403, "SignatureDoesNotMatch", "another account")
        try:
            self.private_key.public_key().verify(signature, text.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise Refusal(403, "SignatureDoesNotMatch", "Access denied.") from None

    def objects(self, bucket: str) -> dict[str, Stored]:
        if bucket not in self.buckets:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist.")
        return self.buckets[bucket]

    def found(self, bucket: str, key: str) -> Stored:
        there = self.objects(bucket).get(key)
        if there is None:
            raise Refusal(404, "NoSuchKey", f"No such object: {bucket}/{key}")
        return there

    def make(self, bucket: str, key: str, data: bytes, options: dict[str, str], *, multipart: bool) -> Stored:
        if options.get("x-goog-acl", "private") not in ACLS:
            raise Refusal(400, "InvalidArgument", "Invalid argument.")
        made = Stored(
            data,
            {name: options[name] for name in KEPT if name in options},
            {n.removeprefix("x-goog-meta-"): v for n, v in options.items() if n.startswith("x-goog-meta-")},
            self.next_count(),
            options.get("x-goog-storage-class", "STANDARD"),
            options.get("x-goog-acl", ""),
            options.get("x-goog-encryption-kms-key-name"),
            multipart,
        )
        self.objects(bucket)[key] = made
        return made

    def multipart(self, upload_id: str, key: str) -> Multipart:
        found = self.multiparts.get(upload_id)
        if found is None or found.key != key:
            raise Refusal(404, "NoSuchUpload", "The requested upload was not found.")
        return found

    def check_generation(self, bucket: str, key: str, wanted: str | None) -> None:
        there = self.objects(bucket).get(key)
        if wanted is not None and int(wanted) != (there.generation if there else 0):
            raise Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")


def _decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    store: GcsServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    # The frame

    def _serve(self) -> None:
        store = self.store
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self.fields = {name.lower(): value for name, value in self.headers.items()}
        self.json = parts.path.startswith("/storage/v1/")
        length = self.fields.get("content-length")
        self.body = self.rfile.read(int(length)) if length is not None else b""
        if parts.path == "/token":
            self._token()
            return
        if self.fields.get("metadata-flavor") == "Google" or parts.path.endswith(":signBlob"):
            self._as_a_machine(parts.path)
            return
        self.where = unquote(parts.path.removeprefix("/").partition("/")[0]), unquote(parts.path[1:].partition("/")[2])
        name, act = self._operation(parts.path)
        with store.lock:
            store.asked.append(Asked(name, self.command, parts.path, self.query, self.fields))
            fault = next((one for one in store.faults if one.name in (name, "*")), None)
            if fault is not None and store.passing[fault.name]:
                store.passing[fault.name] -= 1
                fault = None
            if fault is not None:
                store.faults.remove(fault)
        try:
            if fault is not None and not fault.done:
                self._befall(fault)
                return
            with store.lock:
                if "X-Goog-Signature" in self.query:
                    store.check_signature(self.command, parts.path, self.query, self.fields["host"])
                else:
                    store.check_token(self.fields.get("authorization"))
                if name in store.denied:
                    raise Refusal(403, "AccessDenied", "Access denied.")
                if self.command in ("POST", "PUT") and length is None:
                    raise Refusal(411, "MissingContentLength", "POST requests require a Content-length header.")
                status, headers, body = act()
        except Refusal as refusal:
            self._refuse(refusal)
            return
        if fault is not None:
            self._befall(fault)
        else:
            self._send(status, headers, body)

    def _befall(self, fault: Fault) -> None:
        if fault.then is not None:
            fault.then()
        if fault.code:
            self._refuse(Refusal(fault.status, fault.code))
        elif fault.status:
            self._send(fault.status, {"Content-Type": "text/html"}, b"<html>something in between</html>")
        else:
            self.close_connection = True
            self.connection.shutdown(2)

    def _send(self, status: int, headers: dict[str, Any], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            for one in value if isinstance(value, list) else [value]:
                self.send_header(name, one)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, refusal: Refusal) -> None:
        if self.json:
            reasons = {"NoSuchKey": "notFound", "NoSuchBucket": "notFound", "PreconditionFailed": "conditionNotMet"}
            reasons |= {"AuthenticationRequired": "authError", "AccessDenied": "forbidden"}
            error = {"domain": "global", "reason": reasons.get(refusal.code, refusal.code), "message": refusal.message}
            said = {"error": {"errors": [error], "code": refusal.status, "message": refusal.message}}
            self._send(refusal.status, {"Content-Type": "application/json"}, json.dumps(said).encode())
            return
        body = f"<Error><Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message></Error>"
        declared = f"<?xml version='1.0' encoding='UTF-8'?>{body}"
        self._send(refusal.status, {"Content-Type": "application/xml; charset=UTF-8"}, declared.encode())

    def _token(self) -> None:
        self.json = False
        form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        with self.store.lock:
            self.store.asked.append(Asked("Token", self.command, "/token", {}, self.fields))
            fault = next((one for one in self.store.faults if one.name == "Token"), None)
            if fault is not None:
                self.store.faults.remove(fault)
        try:
            if fault is not None:
                self._befall(fault)
                return
            if form.get("grant_type") == "urn:ietf:params:oauth:grant-type:token-exchange":
                said, status = self.store.exchange(form), 200
            elif form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer":
                said, status = self.store.grant(form["assertion"]), 200
            else:
                raise Refusal(400, "unsupported_grant_type")
        except Refusal as refusal:
            said, status = {"error": refusal.code, "error_description": refusal.message}, refusal.status
        self._send(status, {"Content-Type": "application/json"}, json.dumps(said).encode())

    def _as_a_machine(self, path: str) -> None:
        """Answer as a machine's metadata server, and as IAM, which signs for the machine's account."""
        name = path.rpartition("/")[2]
        with self.store.lock:
            if path.endswith(":signBlob"):
                self.store.asked.append(Asked("SignBlob", self.command, path, {}, self.fields))
                self.store.check_token(self.fields.get("authorization"))
                blob = b64decode(json.loads(self.body)["payload"])
                signed = self.store.private_key.sign(blob, padding.PKCS1v15(), hashes.SHA256())
                said: dict[str, Any] = {"keyId": "1", "signedBlob": b64encode(signed).decode()}
            elif name == "token":
                self.store.asked.append(Asked("Token", self.command, path, {}, self.fields))
                said = self.store._new_token()
            elif path.endswith("/default/"):
                said = {"aliases": ["default"], "email": EMAIL, "scopes": []}
            else:
                said = {}
        body = b"project" if name == "project-id" else json.dumps(said).encode()
        kind = "text/plain" if name == "project-id" else "application/json"
        self._send(200, {"Content-Type": kind, "Metadata-Flavor": "Google"}, body)

    def _operation(self, path: str) -> tuple[str, Callable[[], tuple[int, dict[str, Any], bytes]]]:
        if self.json:
            pieces = path.removeprefix("/storage/v1/b/").split("/")
            if len(pieces) == 2:
                self.where = unquote(pieces[0]), ""
                return "ListObjectResources", self._list_resources
            self.where = unquote(pieces[0]), unquote(pieces[2])
            if pieces[3:] == ["compose"]:
                return "ComposeObject", self._compose
            if "rewriteTo" in pieces:
                self.target = unquote(pieces[5]), unquote(pieces[7])
                return "RewriteObject", self._rewrite
            return "GetObjectResource", self._resource
        method, query, key = self.command, self.query, self.where[1]
        if not key:
            table: dict[str, tuple[str, Any]] = {
                "GET": ("ListMultipartUploads", self._uploads) if "uploads" in query else ("ListObjects", self._list),
                "PUT": ("CreateBucket", self._create_bucket),
            }
            return table.get(method, ("Unknown", self._unknown))
        if "uploadId" in query:
            table = {
                "PUT": ("UploadPart", self._part),
                "GET": ("ListParts", self._parts),
                "POST": ("CompleteMultipartUpload", self._complete),
                "DELETE": ("AbortMultipartUpload", self._abort),
            }
        elif "uploads" in query:
            table = {"POST": ("CreateMultipartUpload", self._initiate)}
        else:
            table = {
                "PUT": ("PutObject", self._put),
                "GET": ("GetObject", self._get),
                "HEAD": ("HeadObject", self._get),
                "DELETE": ("DeleteObject", self._delete),
            }
        return table.get(method, ("Unknown", self._unknown))

    # The XML API

    def _unknown(self) -> tuple[int, dict[str, Any], bytes]:
        raise Refusal(400, "NotImplemented", "A header you provided implies functionality that is not implemented.")

    def _create_bucket(self) -> tuple[int, dict[str, Any], bytes]:
        if self.where[0] in self.store.buckets:
            raise Refusal(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded.")
        self.store.buckets[self.where[0]] = {}
        return 200, {}, b""

    def _check_hash(self) -> None:
        """Compare the checksums that came with the body."""
        for said in (self.fields.get("x-goog-hash") or "").split(","):
            name, _, value = said.strip().partition("=")
            if name == "crc32c":
                if len(value) != 8:
                    raise Refusal(400, "InvalidDigest", "The checksum is not one.")
                if value != b64encode(crc32c(self.body).to_bytes(4, "big")).decode():
                    raise Refusal(400, "CrcMismatch", "The CRC32C you specified did not match what we computed.")

    def _check_key(self) -> None:
        key = self.where[1]
        if key in (".", "..") or "\r" in key or "\n" in key:
            raise Refusal(400, "InvalidObjectName", "The specified object name is not valid.")
        if len(key.encode()) > 1024:
            raise Refusal(400, "KeyTooLong", "The maximum object length is 1024 characters.")
        if sum(len(n) + len(v) for n, v in self.fields.items() if n.startswith("x-goog-meta-")) > 8192:
            raise Refusal(400, "MetadataTooLarge", "Your metadata exceeds the maximum allowed metadata size.")

    def _no_preconditions(self) -> None:
        if any(name.startswith(("x-goog-if-", "if-")) for name in self.fields):
            raise Refusal(400, "NotImplemented", "Request preconditions are not supported for multipart uploads.")

    def _put(self) -> tuple[int, dict[str, Any], bytes]:
        store, (bucket, key) = self.store, self.where
        self._check_key()
        self._check_hash()
        store.check_generation(bucket, key, self.fields.get("x-goog-if-generation-match"))
        made = store.make(bucket, key, self.body, self.fields, multipart=False)
        return 200, self._told(made), b""

    def _told(self, made: Stored) -> dict[str, Any]:
        sums = [f"crc32c={made.crc32c}"]
        if not made.multipart:
            sums.append(f"md5={b64encode(hashlib.md5(made.data).digest()).decode()}")
        return {
            "ETag": f'"{made.etag}"',
            "x-goog-generation": str(made.generation),
            "x-goog-metageneration": "1",
            "x-goog-hash": sums,
            "x-goog-stored-content-length": str(len(made.data)),
        }

    def _get(self) -> tuple[int, dict[str, Any], bytes]:
        found = self.store.found(*self.where)
        if "if-match" in self.fields and self.fields["if-match"].strip('"') != found.etag:
            raise Refusal(412, "PreconditionFailed", "The pre-condition does not hold.")
        headers = {**self._told(found), "Content-Type": "application/octet-stream"}
        headers |= {name.title(): value for name, value in found.headers.items()}
        headers |= {f"x-goog-meta-{name}": value for name, value in found.metadata.items()}
        if found.headers.get("content-encoding") == "gzip" and "gzip" not in self.fields.get("accept-encoding", ""):
            # It would be sent uncompressed, in chunks.
            raise AssertionError("whoever does not take gzip gets other bytes than are stored")
        data, status = found.data, 200
        if "range" in self.fields:
            first, _, last = self.fields["range"].removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                raise Refusal(416, "InvalidRange", "The requested range cannot be satisfied.")
            data, status = data[int(first) : int(last) + 1], 206
        headers["Content-Length"] = str(len(data))
        return status, headers, data

    def _delete(self) -> tuple[int, dict[str, Any], bytes]:
        if "if-match" in self.fields:
            raise Refusal(400, "NotImplemented", "ETags are for requests that retrieve data.")
        self.store.found(*self.where)
        self.store.check_generation(*self.where, self.fields.get("x-goog-if-generation-match"))
        del self.store.buckets[self.where[0]][self.where[1]]
        return 204, {}, b""

    def _list(self) -> tuple[int, dict[str, Any], bytes]:
        objects, query = self.store.objects(self.where[0]), self.query
        after = query.get("continuation-token", "")
        most = int(query.get("max-keys", PAGE))
        keys = sorted(key for key in objects if key.startswith(query.get("prefix", "")) and key > after)
        shown = [(key, objects[key]) for key in keys[:most]]
        entries = "".join(
            f"<Contents><Key>{self._encoded(key)}</Key><Generation>{one.generation}</Generation>"
            f'<LastModified>{_iso(one.modified)}</LastModified><ETag>"{one.etag}"</ETag>'
            f"<Size>{len(one.data)}</Size></Contents>"
            for key, one in shown
        )
        more = f"<NextContinuationToken>{escape(keys[most - 1])}</NextContinuationToken>" if len(keys) > most else ""
        return self._document("ListBucketResult", LISTING_NAMESPACE, self._frame(len(keys) > most) + more + entries)

    def _frame(self, truncated: bool) -> str:
        encoding = "<EncodingType>url</EncodingType>" if self.query.get("encoding-type") == "url" else ""
        return f"<Name>{self.where[0]}</Name>{encoding}<IsTruncated>{str(truncated).lower()}</IsTruncated>"

    def _encoded(self, key: str) -> str:
        return quote(key) if self.query.get("encoding-type") == "url" else escape(key)

    def _document(self, root: str, namespace: str, content: str) -> tuple[int, dict[str, Any], bytes]:
        body = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='{namespace}'>{content}</{root}>"
        return 200, {"Content-Type": "application/xml; charset=UTF-8"}, body.encode()

    # Multipart uploads

    def _initiate(self) -> tuple[int, dict[str, Any], bytes]:
        self._no_preconditions()
        self._check_key()
        if self.body or self.fields.get("x-goog-acl", "private") not in ACLS:
            raise Refusal(400, "InvalidArgument", "Invalid argument.")
        bucket, key = self.where
        self.store.objects(bucket)
        upload_id = f"ABPnz{self.store.next_count()}"
        self.store.multiparts[upload_id] = Multipart(key, self.fields, time.time())
        content = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
        return self._document("InitiateMultipartUploadResult", S3_NAMESPACE, content)

    def _part(self) -> tuple[int, dict[str, Any], bytes]:
        self._no_preconditions()
        upload = self.store.multipart(self.query["uploadId"], self.where[1])
        number = int(self.query["partNumber"])
        if not 1 <= number <= 10_000:
            raise Refusal(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive.")
        self._check_hash()
        etag = hashlib.md5(self.body).hexdigest()
        upload.parts[number] = self.body, etag
        told = b64encode(crc32c(self.body).to_bytes(4, "big")).decode()
        return 200, {"ETag": f'"{etag}"', "x-goog-hash": [f"crc32c={told}"]}, b""

    def _complete(self) -> tuple[int, dict[str, Any], bytes]:
        self._no_preconditions()
        upload = self.store.multipart(self.query["uploadId"], self.where[1])
        parts = self._wanted_parts()
        data = []
        for index, (number, etag) in enumerate(parts):
            if index and number <= parts[index - 1][0]:
                raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
            if number not in upload.parts or upload.parts[number][1] != etag.strip('"'):
                raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.")
            if len(upload.parts[number][0]) < self.store.smallest_part and index < len(parts) - 1:
                raise Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum object size.")
            data.append(upload.parts[number][0])
        made = self.store.make(*self.where, b"".join(data), upload.options, multipart=True)
        del self.store.multiparts[self.query["uploadId"]]
        content = f'<Bucket>{self.where[0]}</Bucket><Key>{escape(self.where[1])}</Key><ETag>"{made.etag}"</ETag>'
        return self._document("CompleteMultipartUploadResult", S3_NAMESPACE, content)

    def _wanted_parts(self) -> list[tuple[int, str]]:
        """The parts in the request's document, which the real one checks by a schema."""
        wrong = Refusal(400, "MalformedCompleteMultipartUploadRequest", "The XML is not valid.")
        try:
            root = ElementTree.fromstring(self.body)
        except ElementTree.ParseError:
            raise wrong from None
        space = root.tag.rpartition("}")[0].removeprefix("{")
        inside = f"{{{space}}}" if space else ""
        if space not in ("", S3_NAMESPACE) or root.tag != f"{inside}CompleteMultipartUpload" or not len(root):
            raise wrong
        found = []
        for part in root:
            if part.tag != f"{inside}Part" or [one.tag for one in part] != [f"{inside}PartNumber", f"{inside}ETag"]:
                raise wrong
            found.append((int(part[0].text or ""), part[1].text or ""))
        return found

    def _abort(self) -> tuple[int, dict[str, Any], bytes]:
        self.store.multipart(self.query["uploadId"], self.where[1])
        del self.store.multiparts[self.query["uploadId"]]
        return 204, {}, b""

    def _parts(self) -> tuple[int, dict[str, Any], bytes]:
        upload = self.store.multipart(self.query["uploadId"], self.where[1])
        after, most = int(self.query.get("part-number-marker", 0)), int(self.query.get("max-parts", PAGE))
        numbers = sorted(number for number in upload.parts if number > after)
        entries = "".join(
            f"<Part><PartNumber>{n}</PartNumber><LastModified>{_iso(time.time())}</LastModified>"
            f'<ETag>"{upload.parts[n][1]}"</ETag><Size>{len(upload.parts[n][0])}</Size></Part>'
            for n in numbers[:most]
        )
        following = f"<NextPartNumberMarker>{numbers[most - 1]}</NextPartNumberMarker>" if len(numbers) > most else ""
        frame = f"<UploadId>{self.query['uploadId']}</UploadId><IsTruncated>{str(len(numbers) > most).lower()}</IsTruncated>"
        return self._document("ListPartsResult", S3_NAMESPACE, frame + following + entries)

    def _uploads(self) -> tuple[int, dict[str, Any], bytes]:
        self.store.objects(self.where[0])
        found = sorted(
            (upload.key, upload_id, upload.initiated)
            for upload_id, upload in self.store.multiparts.items()
            if upload.key.startswith(self.query.get("prefix", ""))
        )
        entries = "".join(
            f"<Upload><Key>{self._encoded(key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{_iso(initiated)}</Initiated></Upload>"
            for key, upload_id, initiated in found
        )
        return self._document("ListMultipartUploadsResult", S3_NAMESPACE, self._frame(False) + entries)

    # The JSON API

    def _as_json(self, bucket: str, key: str, one: Stored) -> dict[str, Any]:
        found: dict[str, Any] = {
            "kind": "storage#object",
            "bucket": bucket,
            "name": key,
            "generation": str(one.generation),
            "size": str(len(one.data)),
            "crc32c": one.crc32c,
            "etag": f"json{one.generation}",
            "timeCreated": _iso(one.modified),
            "storageClass": one.storage_class,
            **{KEPT[name]: value for name, value in one.headers.items()},
        }
        if one.metadata:
            found["metadata"] = one.metadata
        if one.kms_key:
            found["kmsKeyName"] = f"{one.kms_key}/cryptoKeyVersions/1"
        return found

    def _answer(self, said: dict[str, Any]) -> tuple[int, dict[str, Any], bytes]:
        return 200, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(said).encode()

    def _resource(self) -> tuple[int, dict[str, Any], bytes]:
        return self._answer(self._as_json(*self.where, self.store.found(*self.where)))

    def _list_resources(self) -> tuple[int, dict[str, Any], bytes]:
        there, query = self.store.objects(self.where[0]), self.query
        begin, delimiter = query.get("prefix", ""), query.get("delimiter")
        # Keys that have the delimiter behind the prefix are shown as one entry, which ends with it.
        entries = {
            key if delimiter is None or delimiter not in key[len(begin) :] else _folder(key, begin, delimiter)
            for key in there
            if key.startswith(begin)
        }
        shown = sorted(entry for entry in entries if entry > query.get("pageToken", ""))
        page = shown[: self.store.page]
        said: dict[str, Any] = {"kind": "storage#objects"}
        items = [entry for entry in page if delimiter is None or delimiter not in entry[len(begin) :]]
        if items:
            said["items"] = [self._as_json(self.where[0], key, there[key]) for key in items]
        if len(items) < len(page):
            said["prefixes"] = [entry for entry in page if entry not in items]
        if len(shown) > self.store.page:
            said["nextPageToken"] = page[-1]
        return self._answer(said)

    def _compose(self) -> tuple[int, dict[str, Any], bytes]:
        store, said, bucket = self.store, json.loads(self.body), self.where[0]
        wanted = said["sourceObjects"]
        if not 1 <= len(wanted) <= 32:
            raise Refusal(400, "invalid", "The number of source components provided is not between 1 and 32.")
        sources = []
        for one in wanted:
            found = store.found(bucket, one["name"])
            if one.get("generation", str(found.generation)) != str(found.generation):
                raise Refusal(404, "NoSuchKey", f"No such object: {bucket}/{one['name']}")
            sources.append(found)
        classes = {one.storage_class for one in sources}
        if len(classes) > 1 or said["destination"].get("storageClass", sources[0].storage_class) not in classes:
            raise Refusal(400, "invalid", "All source objects must have the same storage class.")
        store.check_generation(*self.where, self.query.get("ifGenerationMatch"))
        options = self._wanted(said["destination"], self.query.get("kmsKeyName"))
        options["x-goog-storage-class"] = sources[0].storage_class
        made = store.make(*self.where, b"".join(one.data for one in sources), options, multipart=True)
        return self._answer(self._as_json(*self.where, made))

    def _wanted(self, said: dict[str, Any], kms_key: str | None) -> dict[str, str]:
        """What an object is to be made with, as headers."""
        options = {name: said[theirs] for name, theirs in KEPT.items() if theirs in said}
        options |= {f"x-goog-meta-{name}": value for name, value in said.get("metadata", {}).items()}
        acl = self.query.get("destinationPredefinedAcl", "")
        if acl:
            options["x-goog-acl"] = "".join(f"-{each.lower()}" if each.isupper() else each for each in acl)
        if kms_key is not None:
            options["x-goog-encryption-kms-key-name"] = kms_key
        return options

    def _rewrite(self) -> tuple[int, dict[str, Any], bytes]:
        store, query = self.store, self.query
        source = store.found(*self.where)
        if query.get("sourceGeneration", str(source.generation)) != str(source.generation):
            raise Refusal(404, "NoSuchKey", f"No such object: {self.where[1]}")
        store.check_generation(*self.target, query.get("ifGenerationMatch"))
        token = query.get("rewriteToken")
        if token is not None and token not in store.rewrites:
            raise Refusal(400, "invalid", "Invalid rewrite token.")
        calls = store.rewrites.pop(token, 0) + 1 if token else 1
        if calls < store.rewrite_calls:
            token = f"token/{store.next_count()}="
            store.rewrites[token] = calls
            size = str(len(source.data))
            return self._answer(
                {"kind": "storage#rewriteResponse", "done": False, "objectSize": size, "rewriteToken": token}
            )
        said = json.loads(self.body)
        # What comes with the request is all there is: nothing is taken over from the source.
        options = self._wanted(said, query.get("destinationKmsKeyName"))
        options["x-goog-storage-class"] = said.get("storageClass", "STANDARD")
        made = store.make(*self.target, source.data, options, multipart=source.multipart)
        return self._answer(
            {"kind": "storage#rewriteResponse", "done": True, "resource": self._as_json(*self.target, made)}
        )


def _folder(key: str, begin: str, delimiter: str) -> str:
    return begin + key[len(begin) :].partition(delimiter)[0] + delimiter


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + ".000Z"
