"""What the application may say beside yes, in JSON: which keys, and what their values have to be. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from resumable.model import ObjectOptions

#: What a value has to be, in words and as a test.
_Kind = tuple[str, Callable[[Any], bool]]


def is_text(value: object) -> bool:
    """Whether it is a text that can be an object's metadata, or a header."""
    # Control characters would end up in headers, and lone surrogates cannot be sent at all.
    return isinstance(value, str) and re.search("[\x00-\x1f\x7f\ud800-\udfff]", value) is None


def are_texts(value: object) -> bool:
    """Whether it is a JSON object of such texts."""
    return isinstance(value, dict) and all(is_text(text) for pair in value.items() for text in pair)


_TEXT: _Kind = ("a text without control characters", is_text)
_NAME: _Kind = ("a text, not empty and without control characters", lambda value: value != "" and is_text(value))
_TEXTS: _Kind = ("an object of texts without control characters", are_texts)
_SIZE: _Kind = ("a whole number, 0 or more", lambda value: type(value) is int and value >= 0)
_OBJECT: _Kind = ("an object", lambda value: isinstance(value, dict))

_OPTIONS = {"acl": _NAME, "storage_class": _NAME, "content_disposition": _NAME, "tags": _TEXTS}
_GRANT = {"owner": _TEXT, "bucket": _NAME, "key": _NAME, "max_size": _SIZE, "content_type": _NAME}
_GRANT |= {"metadata": _TEXTS, "object": _OBJECT}


def read_answer(said: object) -> dict[str, Any]:
    """The values in a JSON object, by the names of `Grant`'s fields; unknown keys are passed over, and null is as good as
    absent.

    :raises ValueError: naming the value that is not of its kind.
    """
    if not isinstance(said, dict):
        raise ValueError("not a JSON object")
    about = _checked(said, _GRANT, "")
    options = _checked(about.pop("object", {}), _OPTIONS, "object.")
    return {**about, "object": ObjectOptions(**options)}


def _checked(said: dict[str, Any], kinds: Mapping[str, _Kind], place: str) -> dict[str, Any]:
    """Of `said` the values that are there; ValueError naming the one that is not of its kind."""
    found = {name: said[name] for name in kinds if said.get(name) is not None}
    for name, value in found.items():
        wanted, fits = kinds[name]
        if not fits(value):
            raise ValueError(f"{place}{name} must be {wanted}")
    return found
