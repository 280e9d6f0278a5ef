"""Sizes as people write them."""

from __future__ import annotations

import re

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_FACTORS = {"": 1, "b": 1, "k": KIB, "m": MIB, "g": GIB, "t": GIB << 10}


def parse_size(text: str) -> int:
    """Return the bytes that a text such as ``64MiB``, ``2G`` or ``100000`` means. All units are binary.

    :raises ValueError: the text is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise ValueError(f"not a size: {text!r}")
    return int(float(found[1]) * _FACTORS[found[2]])


def show_size(size: float) -> str:
    """Return the size as text: ``64 MiB``, ``1.5 GiB``, ``0``."""
    for factor, unit in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= factor:
            return f"{size / factor:.3g} {unit}" if size < 1000 * factor else f"{size / factor:.0f} {unit}"
    return f"{size:.0f} B" if size else "0"
