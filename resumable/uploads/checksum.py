"""CRC32C of a whole object from the CRC32Cs of its parts. Pure.

CRC32C is Castagnoli's polynomial in reflected bit order (RFC 3720, appendix B.4). Appending n bytes to a message multiplies
its CRC by x^(8n) modulo the polynomial, so that parts received in any order can be combined without looking at their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from crc32c import crc32c

_POLYNOMIAL = 0x82F63B78
#: x^0: the highest bit is the lowest power.
_ONE = 1 << 31


def _multiply(a: int, b: int) -> int:
    """Return the product of two polynomials modulo Castagnoli's."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@lru_cache(maxsize=256)
def _shift(size: int) -> int:
    """x^(8*size) modulo the polynomial. Nearly all parts of an object are of one size: the cache makes it one computation."""
    result, base, exponent = _ONE, _ONE >> 1, 8 * size
    while exponent:
        if exponent & 1:
            result = _multiply(result, base)
        base = _multiply(base, base)
        exponent >>= 1
    return result


def checksum(segments: Iterable[bytes]) -> int:
    """Return the CRC32C of the segments together."""
    crc = 0
    for segment in segments:
        crc = crc32c(segment, crc)
    return crc


def combine(parts: Iterable[tuple[int, int]]) -> int:
    """Return the CRC32C of the concatenation of parts given as ``(crc32c, size in bytes)``."""
    crc = 0
    for part_crc, size in parts:
        crc = _multiply(_shift(size), crc) ^ part_crc
    return crc


def suffix(before: int, whole: int, size: int) -> int:
    """Return the CRC32C of the last `size` bytes of a message with CRC32C `whole`, where the bytes before them have `before`."""
    return whole ^ _multiply(_shift(size), before)
