"""How state machines of Hypothesis are run here: the same examples every time, and nobody waits long for the dead."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings

from resumable.model import Unavailable
from resumable.uploads import claims


def every_time(examples: int, steps: int, *, shrinks: bool = True) -> settings:
    """Settings for so many examples, always the same ones.

    :param shrinks: whether a shorter example is looked for when one fails.
    """
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=tuple(Phase) if shrinks else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )


def came_too_late(outcome: object) -> bool:
    """Say whether a claim was lost for its signs of life came too late: they are due within a fraction of a second.

    A machine that is busy with other work may stand still for that long. The client is right to come again.
    """
    return isinstance(outcome, Unavailable) and "claim" in str(outcome) and "lost" in str(outcome)


def short_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let claims end soon after their process has died, as it does every other moment."""
    monkeypatch.setattr(claims, "LEASE", 0.6)
    monkeypatch.setattr(claims, "BEAT", 0.15)
    monkeypatch.setattr(claims, "LOOK", 0.02)
