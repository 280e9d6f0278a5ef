"""What OpenSSL can do and pyOpenSSL has no public name for, with the public way where it is missing.

Four things cost more than anything else if they are done in pyOpenSSL's own way. `send` returns after one record of
16 KiB, each `bio_read` makes two copies, `recv` returns objects of one record, and what comes from a socket is copied
twice before it is decrypted. OpenSSL's binding is reached by private names, so each is looked up once and may be absent.
"""

from __future__ import annotations

import ctypes
from typing import Any

from OpenSSL import SSL

#: The size of a TLS record's content (bytes; RFC 8446, section 5.1).
RECORD = 16 * 1024
#: The most encrypted bytes that are read at once.
PIECE = 320 * 1024

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
_clear_mode: Any = getattr(_lib, "SSL_clear_mode", None)
_partial_write = getattr(_lib, "SSL_MODE_ENABLE_PARTIAL_WRITE", None)
_bio_read = getattr(_lib, "BIO_read", None)
_ssl_read: Any = getattr(_lib, "SSL_read", None)
_get_error: Any = getattr(_lib, "SSL_get_error", None)
_want_read: Any = getattr(_lib, "SSL_ERROR_WANT_READ", None)
_want_write: Any = getattr(_lib, "SSL_ERROR_WANT_WRITE", None)
_from_buffer: Any = getattr(_ffi, "from_buffer", None)
#: What it takes to have OpenSSL read a socket itself, and memory again.
_set_fd: Any = getattr(_lib, "SSL_set_fd", None)
_set_bio: Any = getattr(_lib, "SSL_set_bio", None)
_new_bio: Any = getattr(_lib, "BIO_new", None)
_memory: Any = getattr(_lib, "BIO_s_mem", None)
_bio_data: Any = getattr(_lib, "BIO_get_mem_data", None)
_set_mode: Any = getattr(_lib, "SSL_set_mode", None)
_auto_retry: Any = getattr(_lib, "SSL_MODE_AUTO_RETRY", None)
_set_options: Any = getattr(_lib, "SSL_set_options", None)
_ignore_eof: Any = getattr(_lib, "SSL_OP_IGNORE_UNEXPECTED_EOF", None)
_SOCKET_NAMES = (
    *(_set_fd, _set_bio, _new_bio, _memory, _bio_data, _set_mode, _clear_mode, _auto_retry, _want_write),
    *(_set_options, _ignore_eof, _ffi),
)
#: PyBytes_FromStringAndSize of Python's C interface. Without a string it makes bytes whose content is to be filled in.
_new_bytes: Any = getattr(getattr(ctypes, "pythonapi", None), "PyBytes_FromStringAndSize", None)
if _new_bytes is not None:
    _new_bytes.restype, _new_bytes.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_ssize_t)
#: Encrypted bytes on their way to the kernel. One buffer for the process: what a socket does not take is copied.
_scratch: Any = None


def write_whole(connection: Any) -> None:
    """Have `send` take all that it is given, as records of 16 KiB, and not one record for each call.

    With a memory BIO there is always room for them.
    """
    ssl = getattr(connection, "_ssl", None)
    if ssl is not None and _clear_mode is not None and _partial_write is not None:
        _clear_mode(ssl, _partial_write)


def read_encrypted(connection: Any) -> memoryview:
    """Take up to `PIECE` bytes for the other side out of the connection's memory BIO; empty if there are none.

    They stay valid until the next call, for any connection.
    """
    global _scratch
    bio = getattr(connection, "_from_ssl", None)
    if bio is None or _bio_read is None or _ffi is None:
        return _read_publicly(connection)
    if _scratch is None:
        _scratch = _ffi.new("char[]", PIECE)
    count = _bio_read(bio, _scratch, PIECE)
    return memoryview(_ffi.buffer(_scratch, max(count, 0)))


def _read_publicly(connection: Any) -> memoryview:
    """Do what `read_encrypted` does, by public names."""
    try:
        return memoryview(connection.bio_read(PIECE))
    except SSL.WantReadError:
        return memoryview(b"")


def reads_sockets(connection: Any) -> bool:
    """Say whether `Segment.fill_from` can read a socket of this connection now.

    It can not as long as something encrypted lies in memory, in either direction: that has to be read, or sent, first.
    """
    if any(name is None for name in _SOCKET_NAMES):
        return False
    bios = [getattr(connection, name, None) for name in ("_into_ssl", "_from_ssl")]
    return not any(bio is None or _bio_data(bio, _ffi.new("char **")) for bio in bios)


def _read_socket(connection: Any, descriptor: int) -> None:
    """Have OpenSSL read the socket from now on, and write to it what it has to say of its own accord.

    Its memory BIOs, which are empty, are freed with this. A call reads no more than one record, even if that has no content:
    a client that sends nothing but such records must not keep everybody else waiting. An end without close_notify is an end
    like any other: OpenSSL would write nothing any more, and who has sent a whole request may wait for its answer still. (HTTP
    says by itself where a request ends.)
    """
    ssl = connection._ssl
    _clear_mode(ssl, _auto_retry)
    _set_options(ssl, _ignore_eof)
    _set_fd(ssl, descriptor)


def _read_memory(connection: Any) -> None:
    """Have OpenSSL read and write memory BIOs, new ones."""
    ssl = connection._ssl
    connection._into_ssl, connection._from_ssl = _new_bio(_memory()), _new_bio(_memory())
    _set_bio(ssl, connection._into_ssl, connection._from_ssl)
    _set_mode(ssl, _auto_retry)


class Segment:
    """Collects the content of many records in one object, without a copy of the whole.

    The object is made uninitialised, as ``socket.recv`` makes its own, and OpenSSL writes to it directly. Nobody else
    has it before `take`.

    :ivar filled: bytes that are there.
    :ivar direct: whether that is so; if not, it is done by public names, with a copy.
    """

    def __init__(self, connection: Any, size: int) -> None:
        """:param size: the most bytes, at least 1."""
        self.size = size
        self.filled = 0
        self._connection = connection
        self._ssl = getattr(connection, "_ssl", None)
        self._check: Any = getattr(connection, "_raise_ssl_error", None)
        self._parts: list[bytes] = []
        needed = (self._ssl, self._check, _ssl_read, _get_error, _want_read, _from_buffer, _new_bytes)
        self.direct = all(name is not None for name in needed)
        if self.direct:
            self._content: bytes = _new_bytes(None, size)
            self._start = _from_buffer(self._content)

    @property
    def full(self) -> bool:
        """Whether there is no room left."""
        return self.filled >= self.size

    def fill(self) -> bool:
        """Decrypt what OpenSSL has been given, as far as there is room for it; return whether the segment is full.

        What is decrypted before an error is kept.

        :raises SSL.ZeroReturnError: the other side has said close_notify.
        :raises SSL.Error: TLS is broken.
        """
        if not self.direct:
            return self._fill_publicly()
        ssl, start, size, filled = self._ssl, self._start, self.size, self.filled
        while filled < size:
            count = _ssl_read(ssl, start + filled, size - filled)
            if count <= 0:
                self.filled = filled
                error = _get_error(ssl, count)
                if error in (_want_read, _want_write):
                    return False
                self._check(ssl, count)
                raise SSL.Error([])  # not reached: no success, and no error either
            filled += count
        self.filled = filled
        return True

    def fill_from(self, descriptor: int) -> bool:
        """Do what `fill` does with what a socket has: OpenSSL reads it itself. See `reads_sockets` for when it can.

        :param descriptor: of the socket, which does not block, and to which nothing else is still to be written.
        :raises SSL.SysCallError: the socket is lost. Besides what `fill` raises: `SSL.ZeroReturnError` also when the socket
            has ended without close_notify.
        """
        try:
            _read_socket(self._connection, descriptor)
            return self.fill()
        finally:
            _read_memory(self._connection)

    def _fill_publicly(self) -> bool:
        """Do what `fill` does, by public names."""
        while self.filled < self.size:
            try:
                self._parts.append(self._connection.recv(self.size - self.filled))
            except SSL.WantReadError:
                return False
            self.filled += len(self._parts[-1])
        return True

    def take(self) -> bytes:
        """Return what is there. Nothing can be added afterwards."""
        if not self.direct:
            return b"".join(self._parts)
        content, self._content, self._start = self._content, b"", None
        return content if self.filled == self.size else content[: self.filled]
