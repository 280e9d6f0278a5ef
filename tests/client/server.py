"""A server of the put protocol in memory, in the test's own reactor, that does wrong what a test says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from attrs import define, field
from crc32c import crc32c
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from resumable.client.ranges import merge, missing, offset_of
from resumable.crc32c_text import encode_crc32c

#: The server's chunk size: that of the real one by default.
CHUNK = 6 * 1024 * 1024


@define
class Request:
    """A request as it was received.

    :ivar body: what came of its body.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytearray = field(factory=bytearray, repr=False)

    @property
    def range(self) -> str:
        return self.headers.get("content-range", "")

    @property
    def query(self) -> bool:
        return self.range.startswith("bytes */")


@define
class Fault:
    """What is done in place of the right thing, once.

    :ivar when: says of a request whether it is its turn.
    :ivar after: bytes of the body that are taken before.
    :ivar status: what is answered; 0: the connection is reset; -1: nothing is answered.
    :ivar lost: everything is done as it should be, but for the answer.
    :ivar stored: whether what was taken of the body is stored.
    :ivar then: called at that moment.
    """

    when: Callable[[Request], bool]
    status: int = 0
    after: int | None = None
    headers: dict[str, str] = field(factory=dict)
    body: bytes = b""
    lost: bool = False
    stored: bool = True
    then: Callable[[], object] | None = None


@define
class Kept:
    """An upload: its bytes, which ranges of them are stored, and its length."""

    data: bytearray = field(factory=bytearray, repr=False)
    ranges: list[tuple[int, int]] = field(factory=list)
    total: int | None = None
    finished: bool = False

    def write(self, first: int, data: bytes) -> None:
        if len(self.data) < first + len(data):
            self.data.extend(bytes(first + len(data) - len(self.data)))
        self.data[first : first + len(data)] = data
        if data:
            self.ranges = merge([*self.ranges, (first, first + len(data))])

    def same(self, first: int, data: bytes) -> bool:
        """Whether the bytes that are stored are those that are brought."""
        end, held = first + len(data), self.ranges
        gaps, at = missing(held, first, end), first
        for low, high in [*gaps, (end, end)]:
            if self.data[at:low] != data[at - first : low - first]:
                return False
            at = high
        return True


class PutServer(Factory):
    """Keeps uploads by path, and every request.

    :ivar checksums: whether results tell a checksum.
    """

    def __init__(self) -> None:
        self.uploads: dict[str, Kept] = {}
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.checksums = True
        self.chunk_size = CHUNK
        self.connections: set[_Connection] = set()
        self.most_connections = 0

    def buildProtocol(self, addr: Any) -> _Connection:
        return _Connection(self)

    def fail(self, when: Callable[[Request], bool] | str, **how: Any) -> Fault:
        """Do this wrong, once: at a request for which `when` is true, or whose Content-Range begins with it."""
        fault = Fault((lambda one: one.range.startswith(when)) if isinstance(when, str) else when, **how)
        self.faults.append(fault)
        return fault

    def bodies(self) -> list[Request]:
        """The requests that brought bytes."""
        return [one for one in self.requests if one.method == "PUT" and not one.query]

    # What follows is the protocol.

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        kept = self.uploads.get(request.path)
        if request.method == "DELETE":
            return (404, {}, b"") if self.uploads.pop(request.path, None) is None else (204, {}, b"")
        if request.query:
            if kept is None:
                return 404, {}, b""
            total = request.range.rpartition("/")[2]
            if total != "*":
                kept.total = int(total)
            return self._how_far(request.path, kept)
        return self.take(request)

    def take(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        data, path = bytes(request.body), request.path
        if not request.range:
            self.uploads[path] = Kept(total=len(data))
            self.uploads[path].write(0, data)
            return self._how_far(path, self.uploads[path])
        found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", request.range)
        assert found is not None
        first, total = int(found[1]), None if found[3] == "*" else int(found[3])
        swarm = request.headers.get("upload-swarm") == "?1"
        kept = self.uploads.get(path)
        if first == 0 and not swarm and (kept is None or kept.finished or (total and kept.total not in (None, total))):
            kept = self.uploads[path] = Kept()
        if kept is None:
            return 404, {}, b""
        if total is not None and kept.total not in (None, total):
            return 400, {}, b'{"detail": "another length"}'
        kept.total = total if total is not None else kept.total
        if first > offset_of(kept.ranges) and not swarm:
            return 416, self._stored(kept), b""
        if not kept.same(first, data):
            if first or len(kept.ranges) > 1:
                return 409, {}, b'{"detail": "other bytes"}'
            kept = self.uploads[path] = Kept(total=kept.total)
        kept.write(first, data)
        return self._how_far(path, kept)

    def _stored(self, kept: Kept) -> dict[str, str]:
        said = ",".join(f"{first}-{end - 1}" for first, end in kept.ranges)
        return {"Upload-Chunk-Size": str(self.chunk_size), **({"Range": f"bytes={said}"} if said else {})}

    def _how_far(self, path: str, kept: Kept) -> tuple[int, dict[str, str], bytes]:
        if kept.total is None or missing(kept.ranges, 0, kept.total):
            return 308, self._stored(kept), b""
        kept.finished = True
        sum_ = {"crc32c": encode_crc32c(crc32c(bytes(kept.data)))} if self.checksums else {}
        result = {"name": path, "state": "finished", "size": kept.total, "checksum": sum_}
        return 200, {"Content-Type": "application/json"}, json.dumps(result).encode()


class _Connection(Protocol):
    def __init__(self, server: PutServer) -> None:
        self._server = server
        self._received = bytearray()
        self._request: Request | None = None
        self._fault: Fault | None = None
        self._length = 0
        self._deaf = False

    def connectionMade(self) -> None:
        self._server.connections.add(self)
        self._server.most_connections = max(self._server.most_connections, len(self._server.connections))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._server.connections.discard(self)
        request = self._request
        if request is not None and request.range and not request.query and len(request.body) < self._length:
            # As the real one does, it stores what came.
            self._store_what_came(request)

    def dataReceived(self, data: bytes) -> None:
        if self._deaf:
            return
        self._received += data
        while not self._deaf and self._step():
            pass

    def _step(self) -> bool:
        if self._request is None:
            if b"\r\n\r\n" not in self._received:
                return False
            head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
            self._received = bytearray(rest)
            line, *lines = head.decode("latin-1").split("\r\n")
            method, path, _ = line.split(" ")
            headers = {name.lower(): value.strip() for name, value in (one.split(":", 1) for one in lines)}
            request = self._request = Request(method, path, headers)
            self._server.requests.append(request)
            self._length = int(headers.get("content-length", 0))
            self._fault = next((one for one in self._server.faults if one.when(request)), None)
            if self._fault is not None:
                self._server.faults.remove(self._fault)
        request, fault = self._request, self._fault
        bound = self._length
        if fault is not None and not fault.lost and fault.after is not None:
            bound = min(bound, fault.after)
        wanted = bound - len(request.body)
        request.body += self._received[:wanted]
        del self._received[:wanted]
        if len(request.body) < bound:
            return False
        if fault is not None and not fault.lost:
            self._do_wrong(fault, request)
            return not self._deaf
        self._request = None
        status, headers, body = self._server.answer(request)
        if fault is not None:
            self._reset(fault)
            return False
        self._write(status, headers, body)
        return True

    def _store_what_came(self, request: Request) -> None:
        if self._fault is None or self._fault.stored:
            self._server.take(request)

    def _do_wrong(self, fault: Fault, request: Request) -> None:
        # After an answer in the middle of a body nothing else can be understood.
        self._deaf = fault.status <= 0 or len(request.body) < self._length
        if request.range and not request.query:
            self._store_what_came(request)
        self._request = None
        if fault.status == 0:
            self._reset(fault)
            return
        if fault.then is not None:
            fault.then()
        if fault.status > 0:
            self._write(fault.status, {**fault.headers, **({"Connection": "close"} if self._deaf else {})}, fault.body)

    def _reset(self, fault: Fault) -> None:
        if fault.then is not None:
            fault.then()
        self.transport.abortConnection()  # type: ignore[union-attr]

    def _write(self, status: int, headers: dict[str, str], body: bytes) -> None:
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)  # type: ignore[union-attr]
