"""The JSON that the application may send with a yes: its keys, and the values that each may have. Pure.

JSON of any type and size may come. It becomes values that an upload can have, or a ValueError. The error says what is
wrong and quotes nothing of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from resumable.callbacks.redirects import check_prefixes
from resumable.model import ObjectOptions
from resumable.uploads import values

#: Takes a value from JSON. Returns it in the form in which it is used, or raises a ValueError that names the field.
_Check = Callable[[Any], Any]


def _size(value: object) -> int:
    # To Python a bool is an int, and JSON's 1e400 is infinity. Neither is a number of bytes.
    if type(value) is not int or value < 0:
        raise ValueError("max_size must be a whole number, 0 or more")
    return value


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("object must be an object")
    return value


_OPTIONS: Mapping[str, _Check] = {
    "acl": partial(values.check_word, "object.acl"),
    "storage_class": partial(values.check_word, "object.storage_class"),
    "content_disposition": partial(values.check_disposition, field="object.content_disposition"),
    "content_encoding": partial(values.check_content_encoding, field="object.content_encoding"),
    "tags": partial(values.check_tags, field="object.tags"),
}
_GRANT: Mapping[str, _Check] = {
    "owner": values.check_owner,
    "bucket": values.check_bucket,
    "key": values.check_key,
    "max_size": _size,
    "content_type": values.check_content_type,
    "metadata": values.check_metadata,
    "object": _object,
    "redirect": check_prefixes,
}
_CHANGES: Mapping[str, _Check] = {name: _GRANT[name] for name in ("bucket", "key", "metadata")}


def read_answer(said: object) -> dict[str, Any]:
    """Return the values in a JSON object, by the names of `Grant`'s fields.

    Unknown keys are ignored. Null means the same as an absent key.

    :raises ValueError: a value is not of its kind; the message names it.
    """
    if not isinstance(said, dict):
        raise ValueError("not a JSON object")
    about = _checked(said, _GRANT)
    options = _checked(about.pop("object", {}), _OPTIONS)
    return {**about, "object": ObjectOptions(**options)}


def read_changes(said: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer changes of an upload that is about to be created: ``bucket``, ``key``, ``metadata``.

    :raises ValueError: as `read_answer`.
    """
    return _checked(said, _CHANGES)


def _checked(said: Mapping[str, Any], checks: Mapping[str, _Check]) -> dict[str, Any]:
    """Return the checked values that `said` has; raise a ValueError that names the first one not of its kind."""
    return {name: check(said[name]) for name, check in checks.items() if said.get(name) is not None}
