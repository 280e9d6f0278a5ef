"""From measurements to tables and pictures."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth
from bench.clients.data import PERIOD, digest, pieces
from bench.docs import PAGES, pictures, refreshed
from bench.loads import LOADS, chosen, scaled
from bench.prices import read_prices
from bench.report import picture, tables
from bench.results import merged, read_results
from bench.rows import make_row
from bench.stats import percentile, spread
from bench.svg import Series, lines
from bench.table import figure, render
from bench.units import MIB, parse_size, show_size
from tests.bench.examples import measurement, results

PRICES = read_prices()


def test_percentiles_are_values_that_were_measured() -> None:
    """Nearest rank: no value is made up between two."""
    values = [float(value) for value in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile(values, 100)) == (50, 99, 100)
    assert percentile([3.0, 1.0, 2.0], 50) == 2
    assert percentile([7.0], 99) == 7
    assert percentile([], 50) is None


def test_the_spread_is_relative_to_the_median() -> None:
    """So that it can be read beside any figure."""
    assert spread([1.0, 2.0, 3.0]) == 1
    assert spread([0.0, 0.0]) == 0


def test_a_row_holds_medians_over_rounds() -> None:
    """One disturbed round must not move the table."""
    rounds = [measurement(round=number, cpu=cpu, seconds=cpu * 10) for number, cpu in enumerate([0.1, 0.2, 5.0])]
    row = make_row(rounds, PRICES)
    assert row is not None
    assert row.cpu_per_upload == pytest.approx(0.02)
    assert row.cpu_per_gib == pytest.approx(0.2 / 10 * 1024)
    assert row.speed == pytest.approx(10 * MIB / 2)
    assert row.rounds == 3


def test_a_row_prices_a_million_uploads() -> None:
    """PUT-class and GET-class requests have their own price, deletions none."""
    calls = {"PutObject": 10, "GetObject": 20, "DeleteObject": 10}
    row = make_row([measurement(calls=calls)], PRICES)
    assert row is not None
    assert row.million == pytest.approx(5 + 2 * 0.4)


def test_a_server_that_finished_nothing_has_no_row() -> None:
    """Its time says nothing."""
    assert make_row([measurement(uploads=0, size=0, failures=["refused"])], PRICES) is None


def test_tables_tell_of_failures_floors_and_what_was_left_out() -> None:
    """A figure of a server that failed must not stand alone."""
    run = results(
        measurement(server="nginx", cpu=0.01),
        measurement(failures=["ConnectionError: gone"], sent=15 * MIB, statuses=[0.002]),
        skipped={"tusd": "tusd (how to)"},
    )
    shown = tables(run, PRICES)
    assert "**resumable: 1 failures**" in shown
    assert "- tusd: install tusd (how to)" in shown
    line = next(line for line in shown.splitlines() if line.startswith("| resumable"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[3] == "2"
    assert cells[-2:] == ["2 / 2", "50%"]


def test_each_kind_of_tls_has_its_floor() -> None:
    """That of nginx with TLS on the same side; without one, of plain nginx."""
    run = results(
        measurement(server="nginx", cpu=0.01),
        measurement(server="nginx-tls", cpu=0.02),
        measurement(server="nginx-store-tls", cpu=0.04),
        *(measurement(server=f"resumable{side}", cpu=0.08) for side in ("", "-tls", "-store-tls", "-both-tls")),
    )
    lines = [line.strip("|").split("|") for line in tables(run, PRICES).splitlines() if line.startswith("| resumable")]
    assert {cells[0].strip(): cells[3].strip() for cells in lines} == {
        "resumable": "8",
        "resumable-tls": "4",
        "resumable-store-tls": "2",
        "resumable-both-tls": "8",
    }


def test_results_survive_their_file(tmp_path: Path) -> None:
    """Tables and prices are made of files."""
    run = results(measurement(), measurement(server="nginx"))
    run.write(tmp_path / "run.json")
    assert read_results(tmp_path / "run.json") == run


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "measurements": [{"x": 1}]}'])
def test_a_file_that_holds_no_results_is_named(tmp_path: Path, text: str) -> None:
    """The message says which file."""
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(ValueError, match=r"other\.json"):
        read_results(tmp_path / "other.json")


def test_runs_of_different_scale_are_not_merged() -> None:
    """Their medians would be of nothing."""
    run = results(measurement())
    with pytest.raises(ValueError, match="not the same"):
        merged([run, results(measurement(), loads={"small": "about small (x 0.1)"})])
    assert len(merged([run, run]).measurements) == 2


def test_pictures_are_xml_with_every_value_as_text() -> None:
    """Whoever cannot see lengths or colours can read the figures."""
    shown = picture(results(measurement(), measurement(server="<nginx>")), PRICES)
    assert "".join(ElementTree.fromstring(shown).itertext()).count("2.05 s") == 2
    ElementTree.fromstring(lines("t", "x", "y", [Series("a & b", [(1, 1), (1000, 2), (1e6, 50)])]))


def test_tables_line_up_and_refuse_ragged_lines() -> None:
    """They are read in terminals too."""
    shown = render(["name", "n"], [["a", "1"], ["longer", "1,000"]]).splitlines()
    assert len({len(line) for line in shown}) == 1
    with pytest.raises(ValueError, match="zip"):
        render(["name", "n"], [["a"]])


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "-"), (0, "0"), (0.01234, "0.0123"), (1234.5, "1,234"), (99.9, "99.9")]
)
def test_figures_are_short(value: float | None, shown: str) -> None:
    """Three digits are more than the rounds agree on."""
    assert figure(value) == shown


def test_sizes_are_read_as_they_are_shown() -> None:
    """Flags take what tables say."""
    for size in (0, 1, 65536, 64 * MIB, 1536 * MIB):
        assert parse_size(show_size(size)) == size
    with pytest.raises(ValueError, match="not a size"):
        parse_size("many")


def test_scaling_keeps_what_a_load_is_about() -> None:
    """Many uploads become fewer, large ones smaller; requests stay smaller than their upload."""
    small, requests = chosen(["small", "requests"], 0.01)
    assert (small.count, small.size) == (10, MIB)
    assert requests.count == LOADS["requests"].count
    assert 2 * requests.request_size <= requests.size < LOADS["requests"].size
    assert scaled(LOADS["one"], 1) is LOADS["one"]
    with pytest.raises(ValueError, match="there are one, sixteen"):
        chosen(["huge"], 1)


def test_every_offset_has_bytes_of_its_own() -> None:
    """However it is cut, the same offset has the same byte, and chunks differ."""
    whole = b"".join(pieces(0, PERIOD + 5000))
    assert b"".join(pieces(PERIOD - 10, PERIOD + 5000)) == whole[PERIOD - 10 :]
    assert whole[:4096] != whole[MIB : MIB + 4096]
    assert digest(10).startswith("10 ")


def test_growth_survives_its_file(tmp_path: Path) -> None:
    """The tables in docs/ are made of it."""
    step = growth.make_step(1000, measurement(statuses=[0.001, 0.002]))
    growth.write(tmp_path / "growth.json", "a day", {}, {"uploads": [step, step]})
    assert growth.read(tmp_path / "growth.json") == {"uploads": [step, step]}
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"other\.json: is not a result"):
        growth.read(tmp_path / "other.json")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_documents_hold_what_the_results_say(page: Path) -> None:
    """Tables in docs/ are made by ``python -m bench docs``, of the results that are there beside them."""
    text = page.read_text()
    assert "<!-- bench: " in text
    assert refreshed(text) == text


def test_the_pictures_show_what_the_results_say() -> None:
    """They are made by the same command."""
    for path, drawn in pictures().items():
        assert path.read_text() == drawn


def test_a_table_that_nobody_can_make_is_named() -> None:
    """A misspelt comment would leave old figures standing."""
    with pytest.raises(ValueError, match="no table 'prize': there are report, growth, scale, price"):
        refreshed("<!-- bench: prize -->\n<!-- end -->")
