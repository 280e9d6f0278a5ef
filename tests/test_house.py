"""The house: each room imports only rooms below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

#: From the top down; rooms in one set may know each other.
ROOMS = [
    {"tap", "commands"},
    {"workers"},
    {"service"},
    {"assembly"},
    {"web"},
    {"protocols"},
    {"callbacks"},
    {"upkeep"},
    {"uploads"},
    {"ledger"},
    {"stores"},
    {
        "model",
        "answering",
        "backoff",
        "boot",
        "clock",
        "database_url",
        "settings",
        "logs",
        "single_flight",
        "tasks",
        "metrics",
        "malloc",
        "listening",
        "blocks",
        "quoting",
        "retry_after",
        "signals",
        "stack",
        "log_output",
        "timestamps",
    },
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resumable."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("resumable."))


def test_each_room_knows_only_the_rooms_below_it() -> None:
    wrong = []
    for path in (ROOT / "resumable").rglob("*.py"):
        room = path.relative_to(ROOT / "resumable").parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        assert room in LEVEL, f"{room}: which level is it on?"
        wrong += [f"{path.name}: {other}" for other in imported(path) if LEVEL[other] < LEVEL[room]]
        # settings are for the service to read: what is below gets values, not the whole configuration
        if LEVEL[room] > LEVEL["assembly"] and room != "settings":
            wrong += [f"{path.name}: settings" for other in imported(path) if other == "settings"]
    assert wrong == []
