"""The soak: its figures, and a very short one."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench.cli import main
from bench.soak import BESIDE, Outcome, Soak, gist, passed, picture, slope, verdict, write
from bench.units import MIB

SOAK = Soak(seconds=600.0, memory=64 * MIB)
PROGRESS = {"uploads": 10, "failed": 0, "failures": []}


def outcome(*resident: int, survived: bool = True, **progress: object) -> Outcome:
    """A sample each minute, in MiB."""
    samples = [{"time": 1e9 + 60.0 * n, "rss": float(one * MIB)} for n, one in enumerate(resident)]
    return Outcome(samples, {**PROGRESS, **progress}, survived)


def test_a_server_that_grows_is_told_from_one_that_goes_up_and_down() -> None:
    """The first minutes do not count: every server grows in them."""
    level = outcome(50, 100, 130, 120, 130, 120, 130, 120, 130, 120)
    grows = outcome(50, 100, 110, 120, 130, 140, 150, 160, 170, 172)
    assert abs(verdict(SOAK, level)["growth"]) < 200 * MIB
    assert verdict(SOAK, grows)["growth"] > 400 * MIB
    assert slope([(0.0, 5.0), (2.0, 9.0)]) == 2.0
    assert slope([(0.0, 5.0)]) == slope([(1.0, 5.0), (1.0, 7.0)]) == 0.0


def test_what_passes() -> None:
    """The ceiling is the budget and a fixed amount; each failure counts."""
    ceiling = (64 * MIB + BESIDE) // MIB
    assert passed(SOAK, outcome(100, ceiling, 100))
    assert not passed(SOAK, outcome(100, ceiling + 1, 100))
    assert not passed(SOAK, outcome(100, 100, survived=False))
    assert not passed(SOAK, outcome(100, 100, uploads=0))
    assert not passed(SOAK, outcome())
    failed = outcome(100, 100, failed=1, failures=["put: Refused: 503"])
    assert not passed(SOAK, failed)
    assert gist(SOAK, failed).endswith("1 failed: put: Refused: 503")


def test_a_result_is_a_file_and_a_picture(tmp_path: Path) -> None:
    """The picture has a curve for each figure that is there, and the ceiling."""
    write(SOAK, tmp_path / "soak", outcome(100, 150, 120))
    found = json.loads((tmp_path / "soak.json").read_text())
    assert found["verdict"]["peak"] == 150 * MIB
    assert found["soak"]["memory"] == 64 * MIB
    drawn = ElementTree.fromstring(picture(SOAK, outcome(100, 150, 120)))
    curves = drawn.findall("{*}polyline")
    assert [len(curve.attrib["points"].split()) for curve in curves] == [3, 2]
    assert (tmp_path / "soak.svg").read_text() == picture(SOAK, outcome(100, 150, 120))


@pytest.mark.soak
@pytest.mark.process
def test_a_soak_of_seconds(tmp_path: Path) -> None:
    """Uploads of all three protocols finish, also those that broke off, and the memory is sampled meanwhile."""
    arguments = ["--minutes", "0.1", "--every", "0.5", "--rate", "600", "--most", "1MiB"]
    assert main(["soak", *arguments, "--out", str(tmp_path)]) == 0
    [path] = tmp_path.glob("*.json")
    found = json.loads(path.read_text())
    assert found["progress"]["uploads"] >= found["progress"]["resumed"] > 0
    assert len(found["samples"]) > 5
    assert found["samples"][-1]["blocks"] > found["samples"][0]["blocks"]
    assert path.with_suffix(".svg").exists()
