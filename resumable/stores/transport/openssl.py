"""What OpenSSL can do and pyOpenSSL has no public name for, with the public way where it is missing.

Two things cost more than anything else if they are done in pyOpenSSL's own way. `send` returns after one record of
16 KiB, and each `bio_read` makes two copies. OpenSSL's binding is reached by private names, so each is looked up once
and may be absent.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL

#: The size of a TLS record's content (bytes; RFC 8446, section 5.1).
RECORD = 16 * 1024
#: The most encrypted bytes that are read at once.
PIECE = 320 * 1024

_lib: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
_clear_mode = getattr(_lib, "SSL_clear_mode", None)
_partial_write = getattr(_lib, "SSL_MODE_ENABLE_PARTIAL_WRITE", None)
_bio_read = getattr(_lib, "BIO_read", None)
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
