"""Every block of code that is marked as run is run: some test module takes it."""

from __future__ import annotations

import importlib

import pytest

from tests.docs import blocks
from tests.docs.blocks import Block, blocks_in
from tests.harness import ROOT


def test_no_mark_is_a_promise_that_nobody_keeps() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        if "from tests.docs.blocks import" in path.read_text("utf-8"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    # .ci/run runs this one as it stands there.
    assert "/^<!-- test -->$/" in (ROOT / ".ci" / "run").read_text("utf-8")
    run = blocks.taken | {("README.md", "test")}
    assert blocks.marked() - run == set(), "marked as run, and no test runs it"
    assert run - blocks.marked() == set(), "a test takes it, and it is not there"


PAGE = """
<!-- run: one -->
```sh
echo 1
```

1. A list:

   <!-- run: two -->
   ```python
   if True:
       print(2)
   ```
"""


def test_what_a_mark_is() -> None:
    assert list(blocks_in(PAGE)) == [
        Block("one", "sh", "echo 1\n"),
        Block("two", "python", "if True:\n    print(2)\n"),
    ]
    assert list(blocks_in("<!-- bench: report -->\n```sh\nx\n```\n")) == []


@pytest.mark.parametrize(
    "text",
    [
        "<!-- run: one -->\n\n```sh\nx\n```\n",
        "<!-- run: one -->\nno block\n",
        "<!-- run: -->\n```sh\nx\n```\n",
        "<!-- run: a name -->\n```sh\nx\n```\n",
        PAGE + PAGE,
    ],
)
def test_what_no_mark_is(text: str) -> None:
    with pytest.raises(ValueError, match="has to have a name of its own"):
        list(blocks_in(text))


def test_other_addresses() -> None:
    text = "curl http://127.0.0.1:8080/upload/x\n"
    assert Block("x", "sh", text).at(service="http://127.0.0.1:1") == "curl http://127.0.0.1:1/upload/x\n"
    with pytest.raises(AssertionError, match="is not in x"):
        Block("x", "sh", text).at(store="http://127.0.0.1:1")
