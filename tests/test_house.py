"""The house: each room imports only rooms below it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from resumable.stores.s3 import advice as advice_of_s3
from resumable.stores.s3 import codes as codes_of_s3

ROOT = Path(__file__).parent.parent

#: From the top down; rooms in one set may know each other.
ROOMS = [
    {"tap", "commands", "__main__"},
    {"client", "workers"},
    {"service"},
    {"first_look"},
    {"assembly"},
    {"web"},
    {"page"},
    {"protocols"},
    {"callbacks"},
    {"upkeep"},
    {"uploads"},
    {"ledger"},
    {"s3"},
    {"stores"},
    {
        "model",
        "answering",
        "draining",
        "outages",
        "request_info",
        "backoff",
        "boot",
        "clock",
        "crc32c_text",
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
        "wire_url",
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


def modules_imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_the_transport_knows_no_store() -> None:
    stores = ROOT / "resumable" / "stores"
    kinds = {path.parent.name for path in stores.glob("*/__init__.py")} - {"transport"}
    assert "s3" in kinds
    wrong = [
        f"{path.name}: {module}"
        for path in (stores / "transport").glob("*.py")
        for module in modules_imported(path)
        if any(module.startswith(f"resumable.stores.{kind}.") for kind in kinds)
    ]
    assert wrong == []


def test_only_the_stores_know_the_codes_of_s3() -> None:
    """What is at fault is told by types: nobody else compares codes, or asks whether the store itself has said one."""
    codes = {
        *codes_of_s3.TRANSIENT,
        *codes_of_s3.EXPIRED,
        *codes_of_s3.REJECTED,
        *codes_of_s3._VERDICTS,
        *codes_of_s3._CLIENT,
        *codes_of_s3._OF_ALL,
        *codes_of_s3._NEVER,
        *advice_of_s3._KNOWN,
        "AnswerTooLong",
    }
    inside = tuple(ROOT / "resumable" / "stores" / kind for kind in ("s3", "gcs", "xmlapi", "transport"))
    wrong = []
    for path in (ROOT / "resumable").rglob("*.py"):
        if path.parent in inside:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in codes:
                wrong.append(f"{path.name}:{node.lineno}: {node.value}")
            elif isinstance(node, ast.Attribute) and node.attr == "said" and path.name != "port.py":
                wrong.append(f"{path.name}:{node.lineno}: .said")
    assert wrong == []


#: Words that were replaced by the field's own; in migrations they have to stay.
FORMER = ("desk", "errand", "errands", "intake", "census", "chores", "seed's", "wish", "tally", "finisher", "opendoor")


def test_former_words_are_gone() -> None:
    """One thing has one name: what a newcomer greps for is all there is."""
    found = []
    for folder in ("resumable", "docs", "deploy"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".yaml", ".json") and "migrations" not in path.parts:
                words = set(re.findall(r"[a-z']+", path.read_text().lower()))
                found += [f"{path.relative_to(ROOT)}: {word}" for word in FORMER if word in words]
    assert found == []


def test_no_module_imports_itself_by_a_detour() -> None:
    """Within a room too, imports have no circle."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "resumable").rglob("*.py")
        if "migrations" not in path.parts
    }
    needs: dict[str, set[str]] = {}
    for name, path in modules.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resumable"):
                module = node.module or ""
                inner = {f"{module}.{one.name}" for one in node.names} & modules.keys()
                wanted |= inner or {module}
        needs[name] = wanted - {name}
    left = dict(needs)
    while left:
        free = [name for name, wanted in left.items() if not wanted & left.keys()]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]
