"""Links out of docs/, as ``](../config/app.yaml)``: on the site they lead to the repository's source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.util import logging

_log = logging.getLogger(__name__)
_LINK = re.compile(r"\]\(\.\./([^)#\s]+)(#[^)\s]*)?\)")


def link_to_source(text: str, root: Path, url: str) -> tuple[str, list[str]]:
    """Return a page's text with its links out of docs/ made absolute, and those that lead nowhere.

    :param root: the repository's root.
    :param url: where the source can be read.
    """
    dead = []

    def replacement(match: re.Match[str]) -> str:
        path, anchor = match[1], match[2] or ""
        if not (root / path).exists():
            dead.append(path)
        kind = "tree" if (root / path).is_dir() else "blob"
        return f"]({url}/{kind}/main/{path}{anchor})"

    return _LINK.sub(replacement, text), dead


def _on_source(app: Any, docname: str, source: list[str]) -> None:
    source[0], dead = link_to_source(source[0], Path(app.srcdir).parent, app.config.source_url)
    for path in dead:
        _log.warning("there is no %s", path, location=docname)


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_config_value("source_url", "", "env")
    app.connect("source-read", _on_source)
    return {"parallel_read_safe": True}
