"""How often the operator is told of what a store refuses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogLevel

from resumable.stores.faults import AGAIN, FRESH, OperatorFaults
from resumable.stores.port import StoreError
from resumable.stores.s3.codes import refusal


@pytest.fixture
def errors(logged: list[Any]) -> Iterator[list[Any]]:
    """What was logged of refusals, which the operator is meant to see."""
    yield logged
    logged.clear()


def test_one_line_in_the_log(errors: list[Any]) -> None:
    """Not one for each request: one for each bucket and code, and again when it has gone on for long."""
    clock = Clock()
    faults = OperatorFaults(clock)
    for _ in range(100):
        faults.refused("b", refusal("AccessDenied", "no"), "u1")
        faults.granted("b")  # by another way to write there
        clock.advance(1)
    assert [event["error"] for event in errors if event["log_level"] is LogLevel.error] == ["AccessDenied: no"]
    errors.clear()
    faults.refused("b", refusal("NoSuchBucket", ""), "u1")
    faults.refused("c", refusal("AccessDenied", ""), "u1")
    assert len(errors) == 2
    clock.advance(AGAIN)
    faults.refused("b", refusal("AccessDenied", ""), "u1")
    assert len(errors) == 3


def test_it_is_told_while_it_lasts(errors: list[Any]) -> None:
    """To whoever asks whether this bucket can be written; not for ever, for without uploads nothing would end it."""
    clock = Clock()
    faults = OperatorFaults(clock)
    faults.check("b")
    faults.refused("b", refusal("KMS.DisabledException", ""), "u1")
    faults.check("another")
    with pytest.raises(StoreError, match=r"KMS\.DisabledException"):
        faults.check("b")
    faults.granted("b")
    faults.check("b")
    faults.refused("b", refusal("AccessDenied", ""), "u1")
    clock.advance(FRESH)
    faults.check("b")
    faults.refused("b", refusal("InvalidStorageClass", ""), "u1")
    faults.check("b")  # of that upload alone, as far as anybody knows


def test_what_is_remembered_has_an_end(errors: list[Any]) -> None:
    """The main application may name a new bucket each time."""
    faults = OperatorFaults(Clock())
    for number in range(3000):
        faults.refused(f"b{number}", refusal("InvalidTag", ""), "u")
    assert len(faults._logged) <= 1000
