"""The result of one check."""

from __future__ import annotations

from enum import Enum
from typing import Any

from attrs import frozen

from resumable.commands.cli_common import one_line
from resumable.commands.output import printable


class CheckStatus(str, Enum):
    """Whether the service can work with what was checked."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@frozen
class Finding:
    """One line of a check: what was looked at, whether it is well, what a problem means and what to do about it."""

    #: ``config``, ``ledger``, ``profile``, ``bucket``, ``auth`` or ``events``.
    kind: str
    #: Its name: a file, a URL, a bucket.
    name: str
    verdict: CheckStatus
    says: str = ""
    advice: str = ""

    @property
    def line(self) -> str:
        """The finding as a line for people."""
        if self.kind == "config" and self.verdict is CheckStatus.FAILED:
            # The service itself writes such a problem in the same form.
            return printable(one_line(f"{self.name}: {self.says}"))
        subject = self.name if self.kind == "config" else f"{self.kind} {self.name}".strip()
        if self.verdict is CheckStatus.OK:
            return printable(one_line(f"{subject}: ok{f' ({self.says})' if self.says else ''}"))
        advice = f"; {self.advice}" if self.advice else ""
        return printable(one_line(f"{subject}: {self.verdict.value}: {self.says}{advice}"))

    @property
    def as_json(self) -> dict[str, Any]:
        """The finding as values for JSON."""
        return {
            "kind": self.kind,
            "name": self.name,
            "status": self.verdict.value,
            "message": self.says,
            "advice": self.advice or None,
        }
