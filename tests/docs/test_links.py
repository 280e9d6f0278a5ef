"""Links between the documents, and to files beside them: as GitHub shows them, with no site built."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tests.harness import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
CODE = re.compile(r"^( *)```.*?^\1```$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")
#: What GitHub leaves out of a heading when it makes an anchor of it.
LEFT_OUT = re.compile(r"[^\w\- ]")


@cache
def anchors(page: Path) -> frozenset[str]:
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return frozenset(LEFT_OUT.sub("", heading.lower()).strip().replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_link_is_dead(page: Path) -> None:
    dead = []
    for path, anchor in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        target = (page.parent / path).resolve() if path else page
        generated = target.name in ("settings.md", "commands.md")
        if not target.exists() or (
            anchor and target.suffix == ".md" and not generated and anchor not in anchors(target)
        ):
            dead.append(f"{path}#{anchor}")
    assert not dead


def test_pictures_are_small_and_used() -> None:
    """Whoever clones the repository has them all."""
    shown = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    pictures = list((ROOT / "docs").glob("*.png"))
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.stat().st_size < 60_000, picture.name
        assert f"]({picture.name})" in shown


def test_every_page_has_a_place_in_the_sidebar() -> None:
    """A page that stands nowhere is found by nobody. (Sphinx says so too, when the site is built.)"""
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    listed = re.findall(r"^([\w-]+)$", index, re.MULTILINE)
    for page in (ROOT / "docs").glob("*.md"):
        assert page.stem == "index" or page.stem in listed, page.name
