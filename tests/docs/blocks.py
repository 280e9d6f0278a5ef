"""Code blocks of the documentation that tests run as they stand there.

A block is marked by a line before it, ``<!-- run: NAME -->``; the README's two commands, which other programs look for too, by
``<!-- run -->`` and ``<!-- test -->``. A test takes its block by `block`, at the top of its module. ``test_blocks.py`` refuses a
mark whose block no test has taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from attrs import frozen

from tests.harness import ROOT

_MARK = re.compile(r"^ *<!-- (?:run: *(?P<name>.*?)|(?P<word>run|test)) -->$", re.MULTILINE)
_BLOCK = re.compile(r"\n(?P<indent> *)```(?P<language>\w+)\n(?P<text>.*?\n)(?P=indent)```(?:\n|$)", re.DOTALL)

#: The page and the name of each block that a test module has taken.
taken: set[tuple[str, str]] = set()


@frozen
class Block:
    """A marked block of code."""

    name: str
    language: str
    text: str

    def at(self, **places: str) -> str:
        """The text with other addresses than those of the documentation.

        :param places: ``service`` in place of http://127.0.0.1:8080, and ``store`` of http://127.0.0.1:9000: without a slash at
            the end. Each has to be in the text.
        """
        text = self.text
        for name, place in places.items():
            documented = {"service": "http://127.0.0.1:8080", "store": "http://127.0.0.1:9000"}[name]
            assert documented in text, f"{documented} is not in {self.name}"
            text = text.replace(documented, place)
        return text


def blocks_in(text: str) -> Iterator[Block]:
    """The marked blocks of a page.

    :raises ValueError: a mark without a name, without a block right behind it, or with the name of an earlier one.
    """
    names = set()
    for mark in _MARK.finditer(text):
        name = mark["word"] or mark["name"]
        found = _BLOCK.match(text, mark.end())
        if not re.fullmatch(r"[a-z][a-z0-9-]*", name) or found is None or name in names:
            raise ValueError(f"{mark[0].strip()} has to have a name of its own, and a block of code right behind it")
        names.add(name)
        lines = found["text"].splitlines(keepends=True)
        yield Block(name, found["language"], "".join(line.removeprefix(found["indent"]) for line in lines))


@cache
def _blocks_of(page: str) -> dict[str, Block]:
    return {found.name: found for found in blocks_in((ROOT / page).read_text("utf-8"))}


def block(page: str, name: str) -> Block:
    """The block of this name, which the test module that asks is going to run.

    :param page: a path from the repository's root, such as ``docs/put.md``.
    """
    taken.add((page, name))
    return _blocks_of(page)[name]


def marked() -> set[tuple[str, str]]:
    """The page and the name of every marked block there is."""
    pages = [path for folder in (".", "docs", "examples/*", "bench", "deploy") for path in ROOT.glob(f"{folder}/*.md")]
    names = [str(path.relative_to(ROOT)) for path in pages]
    return {(page, name) for page in names for name in _blocks_of(page)}
