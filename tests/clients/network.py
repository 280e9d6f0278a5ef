"""A network that misbehaves: a proxy between a client and the service that does one thing wrong, at the request a test names."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from attrs import Factory, define
from typing_extensions import Self

from tests.harness import eventually

T = TypeVar("T")

#: Bytes that are read at once, so that a client's connection can be reset at a byte that the test names.
BLOCK = 64 << 10

RESET = "reset"  # the connection to the client breaks in the middle of the request's body
CUT = "cut"  # the same, and nothing gets through until `Network.mend`
STALL = "stall"  # nothing more of the body is passed on until `Network.mend`, and nobody is told
REFUSE = "refuse"  # 503, and nothing of it is passed on
SWALLOW = "swallow"  # the service does what was asked, and its answer is lost

#: The head of a final answer, after interim ones.
_FINAL = re.compile(rb"(?:HTTP/1\.1 1\d\d.*?\r\n\r\n)*(?P<head>HTTP/1\.1 (?P<status>[2-5]\d\d).*?\r\n\r\n)", re.DOTALL)


@define
class Fault:
    """What shall go wrong: at the `nth` request of a method, from now on and counted from 1."""

    method: str
    kind: str
    nth: int
    #: How many bytes of the request's body are passed on before it happens.
    after: int
    seen: int = 0
    hit: threading.Event = Factory(threading.Event)


@define
class Passed:
    """A request that came by.

    :ivar method: the method that counts: that of ``X-HTTP-Method-Override``, where there is one.
    :ivar head: the request line and the headers, as they came.
    :ivar passed: bytes of the body that were passed on.
    :ivar status: of the answer that the service gave, or the proxy in its place; 0 while there is none.
    :ivar answer: the status line and the headers of the service's answer.
    """

    method: str
    path: str
    head: str
    passed: int = 0
    status: int = 0
    answer: str = ""

    def header(self, name: str) -> str | None:
        """The value of the request's header; None without it."""
        return _value(self.head, name)

    def answered(self, name: str) -> str | None:
        """The value of the answer's header; None without it."""
        return _value(self.answer, name)


def _value(head: str, name: str) -> str | None:
    found = re.search(rf"^{name}:[ \t]*(.*?)\r$", head, re.IGNORECASE | re.MULTILINE)
    return None if found is None else found[1]


class Network:
    """The proxy. It passes bytes on as they are, `Host` too: the service hands out URLs that lead through it.

    On a connection a request has to wait until the last one was answered, as browsers and tus' clients do.

    :ivar passed: the requests since `reset`, in the order in which they came.
    """

    def __init__(self, port: int) -> None:
        """
        :param port: that of the service, on 127.0.0.1.
        """
        self.passed: list[Passed] = []
        self._behind = port
        self._errors: list[Exception] = []
        self._faults: list[Fault] = []
        self._gone = False
        self._stalled: list[asyncio.Event] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=BLOCK))
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        assert not self._errors

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # What tests say

    def reset(self) -> None:
        """Count from here, and do everything right."""
        self.mend()
        with self._lock:
            self.passed.clear()
            self._faults.clear()

    def break_off(self, method: str, after: int, nth: int = 1) -> Fault:
        """Reset the connection when so many bytes of the request's body were passed on."""
        return self._plan(Fault(method, RESET, nth, after))

    def cut_off(self, method: str, after: int, nth: int = 1) -> Fault:
        """Be gone when so many bytes of the request's body were passed on, until `mend`."""
        return self._plan(Fault(method, CUT, nth, after))

    def stall(self, method: str, after: int, nth: int = 1) -> Fault:
        """Fall silent when so many bytes of the request's body were passed on, until `mend`."""
        return self._plan(Fault(method, STALL, nth, after))

    def refuse(self, method: str, nth: int = 1) -> Fault:
        """Answer 503, once, and pass nothing on."""
        return self._plan(Fault(method, REFUSE, nth, 0))

    def lose_answer(self, method: str, nth: int = 1) -> Fault:
        """Have the service do what is asked, and reset the connection instead of its answer."""
        return self._plan(Fault(method, SWALLOW, nth, 0))

    def cut(self) -> None:
        """Be gone at once, until `mend`."""
        self._loop.call_soon_threadsafe(self._vanish)

    def mend(self) -> None:
        """Let everything through again."""
        self._gone = False
        stalled, self._stalled = self._stalled, []
        for mended in stalled:
            self._loop.call_soon_threadsafe(mended.set)

    def of(self, method: str) -> list[Passed]:
        """The requests of a method since `reset`."""
        return [request for request in self.passed if request.method == method]

    def _plan(self, fault: Fault) -> Fault:
        with self._lock:
            self._faults.append(fault)
        return fault

    # What it does

    def _fault_at(self, request: Passed) -> Fault | None:
        with self._lock:
            self.passed.append(request)
            found = None
            for fault in self._faults:
                if fault.method == request.method:
                    fault.seen += 1
                    if fault.seen == fault.nth:
                        found = fault
            return found

    async def _stop(self) -> None:
        self._server.close()
        for client in list(self._clients):
            _reset(client)
        for mended in self._stalled:
            mended.set()
        # They end by themselves, now that nobody is there any more.
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        if serving:
            await asyncio.wait(serving, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        self._clients.add(client)
        service: asyncio.StreamWriter | None = None
        try:
            if self._gone:
                # Not before it has said something: Node's fetch never hears of a connection that goes earlier.
                await reader.read(1)
                _reset(client)
                return
            answers, service = await asyncio.open_connection("127.0.0.1", self._behind)
            await _Connection(self, reader, client, answers, service).run()
        except (OSError, asyncio.IncompleteReadError):
            pass  # one of the two has gone away
        except Exception as error:
            self._errors.append(error)
            raise
        finally:
            self._clients.discard(client)
            client.close()
            if service is not None:
                service.close()

    async def _stall(self, fault: Fault) -> None:
        mended = asyncio.Event()
        self._stalled.append(mended)
        _hit(fault)
        await mended.wait()

    def _vanish(self) -> None:
        self._gone = True
        for client in list(self._clients):
            _reset(client)


class _Connection:
    """A client's connection, and the one to the service that belongs to it."""

    def __init__(
        self,
        network: Network,
        requests: asyncio.StreamReader,
        client: asyncio.StreamWriter,
        answers: asyncio.StreamReader,
        service: asyncio.StreamWriter,
    ) -> None:
        self._network = network
        self._requests, self._client = requests, client
        self._answers, self._service = answers, service
        self._asked: Passed | None = None
        self._swallow: Fault | None = None

    async def run(self) -> None:
        """Pass on until one side goes away."""
        back = asyncio.ensure_future(self._pass_answers())
        forth = asyncio.ensure_future(self._pass_requests())
        try:
            await asyncio.wait([back, forth], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (back, forth):
                task.cancel()
            for outcome in await asyncio.gather(back, forth, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, OSError | asyncio.IncompleteReadError):
                    raise outcome

    async def _pass_requests(self) -> None:
        while True:
            head = (await self._requests.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, _ = head.split(" ", 2)
            request = Passed(method, path, head)
            request.method = (request.header("X-HTTP-Method-Override") or method).upper()
            size = None if request.header("Transfer-Encoding") else int(request.header("Content-Length") or 0)
            fault = self._network._fault_at(request)
            kind = None if fault is None else fault.kind
            if kind == REFUSE:
                await self._pass_body(size, lambda block: None)
                request.status = 503
                self._client.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                _hit(fault)
                continue
            self._asked = request
            self._swallow = fault if kind == SWALLOW else None
            self._service.write(head.encode("latin-1"))

            def forward(block: bytes, request: Passed = request) -> None:
                request.passed += len(block)
                self._service.write(block)

            if fault is not None and kind in (RESET, CUT, STALL):
                assert size is not None, "no fault in the middle of a chunked body"
                first = min(size, fault.after)
                await self._pass_body(first, forward)
                if kind == STALL:
                    await self._network._stall(fault)
                    await self._pass_body(size - first, forward)
                    continue
                if kind == CUT:
                    self._network._vanish()
                _reset(self._client)
                _hit(fault)
                return
            await self._pass_body(size, forward)

    async def _pass_body(self, size: int | None, forward: Callable[[bytes], None]) -> None:
        """
        :param size: in bytes; None for a chunked body, whose framing is passed on and counted with it.
        """
        while size is None:
            line = await self._requests.readuntil(b"\r\n")
            forward(line)
            inside = int(line.split(b";")[0], 16)
            await self._pass_body(inside + 2, forward)
            if inside == 0:
                return
        while size:
            block = await self._requests.read(min(size, BLOCK))
            if not block:
                raise ConnectionResetError
            size -= len(block)
            forward(block)
            await self._service.drain()

    async def _pass_answers(self) -> None:
        head = b""
        while block := await self._answers.read(BLOCK):
            request = self._asked
            if request is not None:
                head += block
                final = _FINAL.match(head)
                if final is not None:
                    request.status, request.answer = int(final["status"]), final["head"].decode("latin-1")
                    self._asked, head = None, b""
                    if self._swallow is not None:
                        _reset(self._client)
                        _hit(self._swallow)
                        return
            self._client.write(block)
            await self._client.drain()


def _hit(fault: Fault | None) -> None:
    assert fault is not None
    fault.hit.set()


def _reset(client: asyncio.StreamWriter) -> None:
    """Close with a reset, as when a network drops a connection."""
    connected = client.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.transport.abort()


def wait_for(fault: Fault, *, seconds: float = 30.0) -> None:
    """Wait until it has gone wrong."""
    eventually(fault.hit.is_set, seconds=seconds)
