"""One upload that is larger than anything a bench can send: as much of it as the time allows, and what that takes.

Its length is declared, so the chunks are those of the whole object. The client sends zeros, breaks off now and then, asks
how far it has come, and goes on there.
"""

from __future__ import annotations

import re
import socket
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.run import Bench, say
from bench.servers.resumable import Resumable
from bench.soak import BESIDE
from bench.table import figure, render
from bench.tree import ProcessTree
from bench.units import MIB, show_size

GIB, TIB = 1 << 30, 1 << 40
#: Bytes sent at once.
BLOCK = memoryview(bytes(MIB))
#: Seconds that the service may take to answer, when it has got all that was sent.
ANSWER = 120.0


@frozen(kw_only=True)
class Huge:
    """How to send. Sizes in bytes.

    :ivar length: of the upload, as its client says.
    :ivar seconds: for which it sends.
    :ivar breaks: seconds after which it breaks off, and goes on.
    :ivar memory: the setting ``limits.memory``.
    """

    length: int = TIB
    seconds: float = 300.0
    breaks: float = 60.0
    memory: int = 256 * MIB

    @property
    def ceiling(self) -> int:
        """The most bytes that may be resident."""
        return self.memory + BESIDE


@frozen(kw_only=True)
class Outcome:
    """What came of it.

    :ivar offset: bytes that are stored.
    :ivar sent: bytes that the client has sent; those that were under way at a break, twice.
    :ivar calls: S3 calls by name.
    :ivar failures: what must not be.
    """

    offset: int
    sent: int
    seconds: float
    cpu: float
    idle: int
    peak: int
    calls: Mapping[str, int]
    parts: int
    failures: Sequence[str]


class Limited(Resumable):
    """The server of this project with a limit of memory."""

    name = "resumable-huge"

    def __init__(self, bench: Bench, memory: int) -> None:
        super().__init__(bench.sink)
        self._memory = memory

    def configuration(self) -> dict[str, Any]:
        return {**super().configuration(), "limits": {"memory": self._memory}}


def run(huge: Huge, bench: Bench) -> Outcome:
    """Start a server, and send it one upload for as long as there is time.

    :raises StartFailed: the server does not start.
    """
    bench.sink.reset()
    bench.sink.configure(drop=True)
    server = Limited(bench, huge.memory)
    server.start(Path(tempfile.mkdtemp(prefix="huge-", dir=bench.directory)))
    try:
        return _send_for_a_while(huge, bench, server)
    finally:
        server.stop()


def _send_for_a_while(huge: Huge, bench: Bench, server: Resumable) -> Outcome:
    tree = ProcessTree(server.pid)
    idle, cpu, begun = tree.peak_memory(), tree.cpu_seconds(), time.monotonic()
    tree.forget_peak()
    offset, sent, failures = 0, 0, []
    while offset < huge.length and (left := begun + huge.seconds - time.monotonic()) > 0:
        done, problem = send(server.port, offset, huge.length, min(left, huge.breaks))
        now = ask(server.port, huge.length)
        if problem:
            failures.append(problem)
        if not offset <= now <= offset + done:
            failures.append(f"{done} bytes were sent from {offset} on, and {now} are stored")
        sent, offset = sent + done, now
        say(f"  {time.monotonic() - begun:5.0f} s  {show_size(offset):>10}  peak {show_size(tree.peak_memory())}")
        if len(failures) > 5:
            break
    seconds, calls = time.monotonic() - begun, bench.sink.calls()
    outcome = Outcome(
        offset=offset,
        sent=sent,
        seconds=seconds,
        cpu=tree.cpu_seconds() - cpu,
        idle=idle,
        peak=tree.peak_memory(),
        calls=dict(sorted(calls.items())),
        parts=calls.get("UploadPart", 0) + calls.get("UploadPartCopy", 0),
        failures=failures,
    )
    status, _ = _request(server.port, b"DELETE", b"")
    if offset < huge.length and status != 204:
        failures.append(f"it could not be cancelled: {status}")
    return outcome


def send(port: int, offset: int, length: int, seconds: float) -> tuple[int, str]:
    """Send zeros from `offset` on for so many seconds, and break off; or to the end.

    :return: how many bytes were sent, and what went wrong, if anything.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER) as sock:
        what = f"Content-Range: bytes {offset}-{length - 1}/{length}\r\nContent-Length: {length - offset}"
        sock.sendall(f"PUT /upload/huge HTTP/1.1\r\nHost: localhost\r\n{what}\r\n\r\n".encode())
        end, sent = time.monotonic() + seconds, 0
        try:
            while sent < length - offset:
                if time.monotonic() > end:
                    return sent, ""
                sent += sock.send(BLOCK[: length - offset - sent])
            answer = sock.recv(65536)
        except OSError as error:
            with suppress(OSError):
                sock.settimeout(1)
                return sent, f"{error}: {sock.recv(65536)[:500]!r}"
            return sent, str(error)
        return sent, "" if answer.startswith(b"HTTP/1.1 200") else repr(answer[:500])


def ask(port: int, length: int) -> int:
    """Return how many bytes are stored, once what was under way is: the service is asked until that stays the same."""
    before, same, end = -1, 0, time.monotonic() + ANSWER
    while same < 3 and time.monotonic() < end:
        status, head = _request(port, b"PUT", f"Content-Range: bytes */{length}\r\nContent-Length: 0\r\n".encode())
        found = re.search(rb"(?i)\r\nRange: *bytes=0-(\d+)", head)
        now = length if status == 200 else int(found[1]) + 1 if found else 0
        same, before = same + 1 if now == before else 0, now
        time.sleep(0.5)
    return before


def _request(port: int, method: bytes, headers: bytes) -> tuple[int, bytes]:
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER) as sock:
        sock.sendall(method + b" /upload/huge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + headers + b"\r\n")
        head = b""
        while b"\r\n\r\n" not in head and (data := sock.recv(65536)):
            head += data
    return int(head.split(b" ", 2)[1]), head


def passed(huge: Huge, outcome: Outcome) -> bool:
    """Say whether nothing went wrong, and memory stayed below the ceiling."""
    return not outcome.failures and outcome.peak <= huge.ceiling


def table(huge: Huge, outcome: Outcome) -> str:
    """Return what was measured, and openly apart from it what follows for the whole length."""
    share = huge.length / max(1, outcome.offset)
    requests = sum(outcome.calls.values())
    rows = [
        ("stored", show_size(outcome.offset), show_size(huge.length)),
        ("seconds", figure(outcome.seconds), figure(outcome.seconds * share)),
        ("MB/s", figure(outcome.offset / outcome.seconds / 1e6), ""),
        ("CPU s", figure(outcome.cpu), figure(outcome.cpu * share)),
        ("CPU s for a GiB", figure(outcome.cpu / max(1, outcome.offset) * GIB), ""),
        ("store requests", str(requests), f"{requests * share:,.0f}"),
        ("peak RSS", show_size(outcome.peak), f"may be {show_size(huge.ceiling)}"),
        ("more than idle", show_size(outcome.peak - outcome.idle), ""),
    ]
    calls = ", ".join(f"{count} {name}" for name, count in outcome.calls.items())
    said = "\n".join(outcome.failures) or "no failure"
    return f"{render(('', 'measured', 'of the whole, extrapolated'), rows)}\n\n{calls}\n{said}"
