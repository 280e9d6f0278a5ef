"""The put protocol as a client speaks it: what answers mean. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from resumable.client.errors import Again, ClientError, Gone, Refused
from resumable.client.http import Answer
from resumable.client.ranges import Range, offset_of, parse_range
from resumable.retry_after import retry_after

#: The server has too much to do, or is not ready; 408: it has heard nothing for a while.
_PASSING = frozenset({408, 423, 425, 429})
#: Statuses of 500 and more that will not be another one the next time.
_LASTING = frozenset({501, 505, 510, 511})
#: Characters of an answer's body that are shown.
SHOWN = 300


@frozen
class Stored:
    """The upload is not complete.

    :ivar ranges: what is stored, in ascending order.
    :ivar chunk_size: bytes of a part, at whose multiples ranges had best begin and end; 0 if the server names none.
    :ivar cut: whether there may be more ranges than the answer had room for.
    """

    ranges: list[Range] = field(factory=list)
    chunk_size: int = 0
    cut: bool = False

    @property
    def offset(self) -> int:
        """How many bytes from the start are stored."""
        return offset_of(self.ranges)


@frozen
class Done:
    """The object is made.

    :ivar result: what the server says of it; None if that is no JSON object.
    """

    status: int
    result: Mapping[str, Any] | None


def read_answer(answer: Answer, now: float, first: int | None, *, swarm: bool = False) -> Stored | Done:
    """Return what an answer to a PUT means.

    :param now: seconds since the epoch.
    :param first: the offset of the range that was brought; None for a query.
    :param swarm: any range may be missing.
    :raises Again: it may be another one the next time.
    :raises Gone: the upload is not there, or not one that the request fits.
    :raises Refused: it would be the same the next time.
    """
    status = answer.status
    if 200 <= status < 300:
        return Done(status, read_json(answer.body))
    if status in (308, 416):
        value = answer.headers.get("range")
        ranges = parse_range(value)
        if ranges is None or (status == 416 and value is None and not first):
            raise Refused(f"{status} with a Range that makes no sense" if value else detail_of(answer), status)
        size = answer.headers.get("upload-chunk-size", "")
        chunk = int(size) if size.isascii() and size.isdigit() and len(size) < 16 else 0
        # A server says no more than fits into 3 KiB.
        return Stored(ranges, chunk, cut=len(value or "") > 2500)
    detail = detail_of(answer)
    if status in _PASSING or (status >= 500 and status not in _LASTING):
        raise Again(detail, status, retry_after(answer.headers.get("retry-after"), now))
    if status in _misfits(first, swarm):
        raise Gone(detail, status, first)
    raise refusal(answer)


def _misfits(first: int | None, swarm: bool) -> tuple[int, ...]:
    """Return the statuses that say that the upload is not there, or not one which the request fits."""
    if first is None:
        return (404, 410)
    # At byte 0 an upload begins: 404 then means the URL itself.
    return (400, 404, 409, 410) if first > 0 or swarm else (409,)


def refusal(answer: Answer) -> ClientError:
    """Return the error for an answer that says no."""
    if 300 <= answer.status < 400:
        return Refused(f"{answer.status}: the URL has moved: use the new one", answer.status)
    return Refused(detail_of(answer), answer.status)


def read_json(body: bytes) -> Mapping[str, Any] | None:
    """Return the JSON object that a body holds, or None."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def detail_of(answer: Answer) -> str:
    """Return one line for a person: the status, and what the server says of it (RFC 9457, or its first words)."""
    said = read_json(answer.body)
    text = ""
    if said is not None:
        text = str(said.get("detail") or said.get("title") or said.get("error") or "")
    elif "html" not in answer.headers.get("content-type", ""):
        text = answer.body[: 4 * SHOWN].decode("utf-8", "replace")
    text = " ".join("".join(one if one.isprintable() else " " for one in text).split())[:SHOWN]
    return f"{answer.status}: {text}" if text else f"{answer.status}"
