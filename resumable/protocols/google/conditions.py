"""Preconditions of Google's API: a condition that cannot be kept is refused, for whoever says it relies on it. Pure.

https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from resumable.model import Invalid, UploadError
from resumable.quoting import quote_briefly

CONDITIONS = ("ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch")

_NUMBER = re.compile(r"\d{1,19}", re.ASCII)


class NotMet(UploadError):
    """A precondition of the request does not hold."""


def may_overwrite(query: Mapping[str, list[str]]) -> bool:
    """Return whether an object that is there may be replaced: not with ``ifGenerationMatch=0``.

    :raises Invalid: another condition is said. There is no generation of an object that somebody else has stored.
    """
    said = _said(query)
    only_new = said.pop("ifGenerationMatch", None)
    if said:
        raise Invalid(f"{next(iter(said))} cannot be kept here; ifGenerationMatch=0 can")
    if only_new not in (None, 0):
        raise Invalid("of ifGenerationMatch only 0 can be kept here: the object must not exist yet")
    return only_new is None


def check_conditions(query: Mapping[str, list[str]], generation: int) -> None:
    """Check the conditions of a request for a finished upload's object.

    :raises NotMet: one does not hold.
    :raises Invalid: one is no number.
    """
    for name, wanted in _said(query).items():
        actual = 1 if "Metageneration" in name else generation
        if (wanted == actual) is ("NotMatch" in name):
            raise NotMet(f"{name}={wanted}: it is {actual}")


def _said(query: Mapping[str, list[str]]) -> dict[str, int]:
    said = {}
    for name in CONDITIONS:
        values = set(query.get(name, []))
        if len(values) > 1 or not all(_NUMBER.fullmatch(value) for value in values):
            raise Invalid(f"{name}={quote_briefly(','.join(query[name]))} is not a generation")
        if values:
            said[name] = int(values.pop())
    return said
