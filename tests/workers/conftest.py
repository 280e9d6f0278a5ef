"""Services of several workers."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Service, eventually
from tests.s3servers import MotoServer


@pytest.fixture(scope="package")
def s3() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


def pids(log: str) -> dict[int, int]:
    """The process of each worker that has become ready, the latest, as the log (text or JSON) says."""
    return {int(number): int(pid) for number, pid in re.findall(r"worker (\d+) is ready, process (\d+)", log)}


def all_ready(service: Service, workers: int) -> dict[int, int]:
    """Wait until all workers are ready; returns their processes."""

    def ready() -> dict[int, int] | None:
        found = pids(service.log)
        return found if len(found) == workers else None

    return eventually(ready, seconds=60)


def alive(pid: int) -> bool:
    """Whether the process is there; one that has ended and waits for its parent is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def events(service: Service) -> list[dict[str, Any]]:
    """What was logged, in JSON."""
    return [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]


def sockets_of(pid: int) -> set[str]:
    """The sockets a process has open."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
        except OSError:
            continue
        if target.startswith("socket:"):
            found.add(target)
    return found
