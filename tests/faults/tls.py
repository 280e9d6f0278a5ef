"""TLS whose records a test can keep, damage or cut, and messages of TLS that Python's ssl module has no name for."""

from __future__ import annotations

import _ssl
import contextlib
import ctypes
import io
import socket
import ssl
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from tests.stores.transport.test_tls import AUTHORITY, GOOD, PEM

#: What can go wrong with an answer, beside what can over a plain connection. The work is done.
ANSWER = (
    "record cut",  # the connection ends in the middle of a record, without a close_notify
    "record reset",  # the same, with a reset
    "record flipped",  # a bit is flipped on the way (bad MAC)
    "record stalled",  # half of the record comes late
    "no length, cut",  # an answer that ends with the connection is cut at the edge of a record, without a close_notify
    "no length, goodbye",  # the same, with a close_notify
)
#: What can go wrong while the body of a request comes.
BODY = (
    "goodbye in the body",  # a close_notify, and the end
    "cut in the body",  # the store sends nothing any more, and has not said close_notify
    "half closed in the body",  # a close_notify, and nothing more is read or written until the other side goes away
    "flipped in the body",  # a bit is flipped on the way; the store says so by an alert
    "503 in the body",  # an answer before the body was read, and the end
)
#: What may come at any time and is no fault.
CALM = (
    "new keys in the body",  # KeyUpdate, by which the other side has to change its keys, too
    "tickets in the body",  # NewSessionTicket
)
#: What can go wrong with a handshake.
HANDSHAKE = ("cut", "reset", "flipped", "goodbye")


def pem_files(directory: Path) -> tuple[Path, Path]:
    """Write what a server needs (key and certificate), and what trusts it; return both paths."""
    own, trusted = directory / "own.pem", directory / "trusted.pem"
    key = GOOD.key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    own.write_bytes(key + GOOD.certificate.public_bytes(PEM))
    trusted.write_bytes(AUTHORITY.certificate.public_bytes(PEM))
    return own, trusted


def server_context(own: Path) -> ssl.SSLContext:
    """Return what a store's end is made with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    return context


def client_context() -> ssl.SSLContext:
    """Return what a client's end is made with that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# OpenSSL, as the ssl module was linked with it.
_libssl: Any = ctypes.CDLL(_ssl.__file__)
needs_messages = pytest.mark.skipif(
    not all(hasattr(_libssl, name) for name in ("SSL_key_update", "SSL_new_session_ticket", "SSL_renegotiate")),
    reason="the ssl module was linked with an OpenSSL whose other functions cannot be reached",
)


def _pointer(tls: ssl.SSLObject) -> ctypes.c_void_p:
    """Return OpenSSL's own object: in CPython's, it stands behind a reference to the socket."""
    where = id(tls._sslobj) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)  # type: ignore[attr-defined]
    return ctypes.c_void_p.from_address(where)


def change_keys(tls: ssl.SSLObject, *, both: bool = True) -> None:
    """Have OpenSSL write a KeyUpdate (RFC 8446, section 4.6.3).

    :param both: whether the other side has to change its keys, too.
    """
    assert _libssl.SSL_key_update(_pointer(tls), 1 if both else 0) == 1
    tls.do_handshake()


def ask_for_renegotiation(tls: ssl.SSLObject) -> None:
    """Have a client's OpenSSL ask for a new handshake in the connection (RFC 5246, section 7.4.1)."""
    assert _libssl.SSL_renegotiate(_pointer(tls)) == 1
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()


def give_ticket(tls: ssl.SSLObject) -> None:
    """Have the server's OpenSSL write a NewSessionTicket (RFC 8446, section 4.6.1)."""
    assert _libssl.SSL_new_session_ticket(_pointer(tls)) == 1
    tls.do_handshake()


def flipped(encrypted: bytes) -> bytes:
    """Return it with one bit changed, in the content of the last record."""
    return encrypted[:-1] + bytes([encrypted[-1] ^ 1])


class TlsServerEnd(io.RawIOBase):
    """The server's end of a TLS connection: a file to read and write.

    :ivar flips: whether a bit of what comes next is flipped on its way.
    """

    def __init__(self, bare: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__()
        self.bare = bare
        self.flips = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def handshake(self, fault: str = "") -> None:
        """Do it, or do it wrong and raise OSError."""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                if fault and self._outgoing.pending:
                    first = self._outgoing.read()
                    self.bare.sendall(flipped(first) if fault == "flipped" else first[: len(first) // 2])
                    self.end(reset=fault == "reset", wait=fault == "flipped")
                    raise ConnectionError from None
                self.flush()
                self._receive()
        self.flush()
        if fault == "goodbye":
            self.goodbye()
            self.end()
            raise ConnectionError

    def _receive(self) -> None:
        data = self.bare.recv(65536)
        if data and self.flips:
            self.flips, data = False, data[: len(data) // 2] + flipped(data[len(data) // 2 :])
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            try:
                return int(self.tls.read(len(buffer), buffer))  # type: ignore[call-overload]
            except ssl.SSLWantReadError:
                self.flush()
                self._receive()
            except ssl.SSLZeroReturnError:
                return 0
            except ssl.SSLEOFError:
                return 0
            except ssl.SSLError:
                self.flush()  # the alert
                raise

    def write(self, data: Any) -> int:
        self.bare.sendall(self.seal(bytes(data)))
        return len(data)

    def flush(self) -> None:
        if self._outgoing.pending:
            self.bare.sendall(self._outgoing.read())

    def seal(self, data: bytes) -> bytes:
        """Return it encrypted, and whatever has to be sent before it."""
        self.tls.write(data)
        return self._outgoing.read()

    def goodbye(self) -> None:
        """Say close_notify."""
        with contextlib.suppress(ssl.SSLError):  # the other side has not said it yet
            self.tls.unwrap()
        self.flush()

    def end(self, *, reset: bool = False, wait: bool = False) -> None:
        """End the connection as it is.

        :param wait: until the other side has gone away.
        """
        if wait:
            while self.bare.recv(65536):
                pass
        if reset:
            self.bare.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.bare.shutdown(socket.SHUT_WR)
        self.bare.close()

    def answer_wrongly(self, fault: str, answer: bytes, late: float) -> None:
        """Send an answer with one of the faults of `ANSWER`.

        :param late: seconds by which half of a record comes late.
        """
        head, _, body = answer.partition(b"\r\n\r\n")
        if fault.startswith("no length"):
            lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length")]
            whole = b"\r\n".join([*lines, b"Connection: close", b"", b""]) + body
            short = len(whole) - len(body) // 2 if body else len(head) // 2
            self.write(whole[:short])
            if fault.endswith("goodbye"):
                self.goodbye()
            self.end()
            return
        sealed = self.seal(answer)
        half = len(sealed) // 2
        if fault == "record flipped":
            self.bare.sendall(flipped(sealed))
            self.end(wait=True)
            return
        self.bare.sendall(sealed[:half])
        if fault == "record stalled":
            time.sleep(late)
            self.bare.sendall(sealed[half:])
        else:
            self.end(reset=fault == "record reset")

    def disturb(self, fault: str) -> None:
        """Do what `BODY` or `CALM` says, in the middle of a body.

        :raises ConnectionError: it has ended the connection.
        """
        if fault == "new keys in the body":
            change_keys(self.tls)
        elif fault == "tickets in the body":
            give_ticket(self.tls)
        elif fault == "flipped in the body":
            self.flips = True
        elif fault == "503 in the body":
            self.write(b"HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            self.goodbye()
            self.end()
            raise ConnectionError
        elif fault == "cut in the body":
            self.bare.shutdown(socket.SHUT_WR)
            self.end(reset=True, wait=True)
            raise ConnectionError
        else:
            self.goodbye()
            self.end(wait=fault.startswith("half closed"))
            raise ConnectionError
        self.flush()
