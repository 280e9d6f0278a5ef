"""Measurements to reckon with."""

from __future__ import annotations

from typing import Any

from bench.results import Measurement, Results

MIB = 1 << 20


def measurement(**changes: Any) -> Measurement:
    """One server under one load, once: 10 uploads of 1 MiB in a second."""
    values: dict[str, Any] = {
        "server": "resumable",
        "load": "small",
        "round": 1,
        "seconds": 1.0,
        "size": 10 * MIB,
        "sent": 10 * MIB,
        "uploads": 10,
        "cpu": 0.02,
        "peak": 100 * MIB,
        "idle": 60 * MIB,
        "temporary": 0,
        "written": 4096,
        "calls": {"PutObject": 10},
        "answers": [0.01] * 10,
        "statuses": [],
        "failures": [],
        **changes,
    }
    return Measurement(**values)


def results(*measurements: Measurement, **changes: Any) -> Results:
    """A run."""
    values: dict[str, Any] = {
        "date": "2026-01-02 03:04",
        "command": "run",
        "machine": {
            "processor": "a processor",
            "cores": 2,
            "memory": 8 << 30,
            "kernel": "6",
            "python": "3.12",
            "load": 0.5,
        },
        "servers": {one.server: "" for one in measurements},
        "loads": {one.load: f"about {one.load}" for one in measurements},
        "skipped": {},
        "measurements": list(measurements),
        **changes,
    }
    return Results(**values)
