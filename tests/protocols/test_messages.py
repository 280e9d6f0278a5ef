"""How far an upload is, in a header: what fits, and never more."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred

from resumable.model import Piece, Upload
from resumable.protocols.messages import range_header
from resumable.protocols.ranges import Ranges
from resumable.protocols.results import Results
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report, as_json

#: Bytes that S3 lets an object have, and then some.
LARGEST = 6 << 40
STEPS = st.lists(st.tuples(st.integers(0, 1_000_000), st.integers(1, 1_000_000)), max_size=20)


@st.composite
def disjoint(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Ranges that have no byte in common, in any order; few or thousands, near or far."""
    found, end = [], draw(st.sampled_from([0, 7, LARGEST]))
    for gap, size in draw(STEPS) * draw(st.integers(1, 300)):
        found.append((end + gap, end + gap + size))
        end += gap + size
    random.Random(draw(st.integers())).shuffle(found)
    return found


def parse(headers: dict[str, str]) -> list[tuple[int, int]]:
    """The ranges ``[first, end)`` that the header lists."""
    if not headers:
        return []
    unit, _, shown = headers["Range"].partition("=")
    assert unit == "bytes"
    return [(int(first), int(last) + 1) for first, last in (item.split("-") for item in shown.split(","))]


@given(disjoint())
@example([])
@example([(0, 0)])
@example([(5, 6)])
@example([(LARGEST - 2 * n - 1, LARGEST - 2 * n) for n in range(10_000)])
def test_range_is_short_and_lists_the_first(stored: list[tuple[int, int]]) -> None:
    """Under 4 KiB with its name and all; a prefix of what is stored, ascending, and as much of it as there is room for."""
    headers = range_header(stored)
    line = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    assert len(line) < 4096
    listed, every = parse(headers), sorted(span for span in stored if span[0] < span[1])
    assert listed == every[: len(listed)]
    assert listed == every or len(line) > 3_000


def test_nothing_stored_is_no_header() -> None:
    assert range_header([]) == range_header([(0, 0)]) == {}
    assert range_header([(0, 6), (9, 10)]) == {"Range": "bytes=0-5,9-9"}


@ensureDeferred
async def test_a_swarm_that_brings_every_other_byte() -> None:
    """Its 308 is short, and what the header leaves out is in the JSON."""
    cuts = list(range(1, 8_001))
    pieces = [Piece(first, end, None, "etag") for first, end in list(pairwise(cuts))[::2]]
    random.Random(4).shuffle(pieces)
    upload = Upload(
        id="id",
        protocol="session",
        owner="",
        name="name",
        bucket="bucket",
        key="key",
        length=10_000,
        chunk_size=6 << 20,
        created=0.0,
        updated=0.0,
        swarm=True,
    )
    report = Report(upload, Coverage.of(pieces))
    ranges = Ranges(Results())
    answer = await ranges.answer(report)
    head = "".join(f"{name}: {value}\r\n" for name, value in dict(answer.headers).items())
    assert (answer.status, len(head) < 4096) == (308, True)
    listed = parse({"Range": dict(answer.headers)["Range"]})
    told = [(first, last + 1) for first, last in as_json(report)["stored"]]
    assert 0 < len(listed) < len(told) == 4_000
    assert listed == told[: len(listed)]
