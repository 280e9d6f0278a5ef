"""The loads, and how they are made smaller."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve, frozen

from bench.units import KIB, MIB


@frozen(kw_only=True)
class Load:
    """What clients do. The fields are those of a `Job`, and two settings of the sink."""

    name: str
    about: str
    count: int
    size: int
    concurrency: int = 1
    request_size: int = 0
    breaks: int = 0
    rate: int = 0
    queries: float = 0.0
    #: Seconds that the sink waits before it answers a body.
    delay: float = 0.0
    #: Whether the sink keeps bodies, so that objects can be compared with what was sent.
    checked: bool = False

    @property
    def total(self) -> int:
        """Bytes of all uploads."""
        return self.count * self.size


LOADS: Mapping[str, Load] = {
    load.name: load
    for load in (
        Load(name="one", about="1 x 2 GiB", count=1, size=2048 * MIB),
        Load(name="sixteen", about="16 x 64 MiB at once", count=16, size=64 * MIB, concurrency=16),
        Load(name="small", about="1,000 x 1 MiB, 8 at a time", count=1000, size=MIB, concurrency=8),
        Load(name="tiny", about="2,000 x 1 kB, 8 at a time", count=2000, size=1000, concurrency=8),
        Load(name="requests", about="4 x 100 MiB in requests of 5 MiB", count=4, size=100 * MIB, request_size=5 * MIB),
        Load(
            name="resume",
            about="2 x 128 MiB, each dropped four times and resumed",
            count=2,
            size=128 * MIB,
            breaks=4,
            checked=True,
        ),
        Load(name="slow-store", about="1 x 128 MiB, S3 takes 1 s for each part", count=1, size=128 * MIB, delay=1.0),
        Load(
            name="slow-clients",
            about="1,000 connections at 100 kB/s, 2 MB each, and 20 status queries/s",
            count=1000,
            size=2_000_000,
            rate=100_000,
            queries=20.0,
        ),
    )
}

#: The fewest bytes to which an upload is scaled down.
LEAST = 64 * KIB


def scaled(load: Load, factor: float) -> Load:
    """Return the load with `factor` times the bytes.

    Where there are many uploads there will be fewer, otherwise smaller ones. Requests keep their size as long as there
    are two of them. Breaks, delays and rates stay.
    """
    if factor == 1:
        return load
    if load.count >= 100:
        return evolve(load, count=max(2, round(load.count * factor)), about=f"{load.about} (x {factor:g})")
    size = max(LEAST, round(load.size * factor))
    request_size = min(load.request_size, size // 2)
    return evolve(load, size=size, request_size=request_size, about=f"{load.about} (x {factor:g})")


def chosen(names: list[str] | None, factor: float) -> list[Load]:
    """Return the loads with these names, or all, scaled.

    :raises ValueError: there is no load with a name.
    """
    return [scaled(LOADS[name], factor) for name in pick(names, LOADS, "load")]


def pick(names: list[str] | None, known: Mapping[str, object], what: str) -> list[str]:
    """Return `names`, or all known names if it is None.

    :raises ValueError: a name is not known. The message lists those that are.
    """
    for name in names or []:
        if name not in known:
            raise ValueError(f"no {what} {name!r}: there are {', '.join(known)}")
    return names or list(known)
