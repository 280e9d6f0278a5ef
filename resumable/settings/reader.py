"""From a tree of plain values to frozen sections, by what each section declares.

A section is a frozen attrs class whose fields are made with `setting` and `section`. It may have a static method
``check(values, given)`` for what several keys have to do with each other: it gets the values that could be read and
the names that were given, and yields pairs of key and problem.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast, overload

import attrs

from resumable.settings.source import join
from resumable.settings.values import Faults

T = TypeVar("T")
D = TypeVar("D")
S = TypeVar("S")

_RULE = "resumable.settings"


class SettingsError(Exception):
    """A configuration that cannot be used; `problems` are lines such as ``app.yaml: store.bucket: required``."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Problems:
    """The problems of one file. The first at each place counts: what follows there is mostly its consequence."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: dict[str, str] = {}

    def add(self, path: str, problem: str) -> None:
        """Note `problem` at the dotted `path`, or with the whole file where it is empty."""
        self._found.setdefault(path, problem)

    def raise_if_any(self) -> None:
        """Raise all problems there are."""
        if self._found:
            places = [f"{path}: {problem}" if path else problem for path, problem in self._found.items()]
            # A line each, though the name of an unknown key may be anything.
            lines = ["".join(char if char.isprintable() else "?" for char in place) for place in places]
            raise SettingsError([f"{self._source}: {line}" for line in lines])


@attrs.frozen
class Rule:
    """How a field is read: by `parse`, or as the section `section`; `word` may stand in the section's place."""

    parse: Callable[[object], Any] | None = None
    section: type[Any] | None = None
    word: str | None = None
    required: str = "required"


@overload
def setting(parse: Callable[[object], T], *, shown: Callable[[T], str] = repr) -> T: ...
@overload
def setting(parse: Callable[[object], T], default: D) -> T | D: ...
def setting(parse: Callable[[object], Any], default: Any = attrs.NOTHING, *, shown: Callable[[Any], str] = repr) -> Any:
    """Make a field that `parse` reads; without a `default` it is required. `shown` is its repr, where that must not say all."""
    if isinstance(default, dict):
        default = attrs.Factory(default.copy)
    return attrs.field(default=default, metadata={_RULE: Rule(parse)}, repr=shown)


@overload
def section(cls: type[S]) -> S: ...
@overload
def section(cls: type[S], *, word: D, required: str) -> S | D: ...
def section(cls: type[Any], *, word: Any = None, required: str = "") -> Any:
    """Make a field that is a section of its own; one that is left out has all its defaults.

    With a `word` the field may be just that word instead, and has to be given; `required` is said where it is not.
    """
    if word is None:
        return attrs.field(factory=cls, metadata={_RULE: Rule(section=cls)})
    return attrs.field(metadata={_RULE: Rule(section=cls, word=word, required=f"required ({required})")})


def optional_section(cls: type[S]) -> S | None:
    """Make a field that is a section of its own, or None where it is left out."""
    return cast("S | None", attrs.field(default=None, metadata={_RULE: Rule(section=cls)}))


def read_section(cls: type[S], tree: Any, path: str, problems: Problems) -> S | None:
    """Read the section `cls` from `tree`; return None, and add to `problems`, where that cannot be done."""
    fields = {item.name: item for item in attrs.fields(cast(Any, cls))}
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        problems.add(path, f"must hold the keys {', '.join(fields)}")
        return None
    for name in tree:
        if name not in fields:
            problems.add(join(path, str(name)), _unknown(str(name), fields))
    values: dict[str, Any] = {}
    # An empty value counts as none, so that ${NAME:-} can leave a key out.
    given = {name for name in fields if tree.get(name) not in (None, "")}
    for name, item in fields.items():
        try:
            values[name] = _read(item, tree[name] if name in given else None, join(path, name), problems)
        except Faults as error:
            for place, problem in error.faults:
                problems.add(join(path, name) + place, problem)
        except ValueError as error:
            problems.add(join(path, name), str(error))
    for name, problem in getattr(cls, "check", lambda values, given: ())(values, given):
        problems.add(join(path, name), problem)
    return cls(**values) if values.keys() == fields.keys() else None


def _read(item: attrs.Attribute[Any], value: Any, path: str, problems: Problems) -> Any:
    """Return the value of one field.

    :raises ValueError: it cannot be read, or is missing.
    :raises Faults: without any, where they are reported already.
    """
    rule: Rule = item.metadata[_RULE]
    if rule.section is not None and (hasattr(item.default, "factory") or value is not None):
        if rule.word is not None and value == rule.word:
            return value
        if rule.word is not None and not isinstance(value, dict):
            names = ", ".join(field.name for field in attrs.fields(rule.section))
            raise ValueError(f"must be {rule.word}, or hold the keys {names}")
        found = read_section(rule.section, value, path, problems)
        if found is None:
            raise Faults([])
        return found
    if value is None:
        if item.default is attrs.NOTHING:
            raise ValueError(rule.required)
        return cast(Any, item.default).factory() if hasattr(item.default, "factory") else item.default
    assert rule.parse is not None, "a field is a setting or a section"
    return rule.parse(value)


def _unknown(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known are {', '.join(known)}"
