"""What a TB costs."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

from bench.cost import TB, Assumptions, Model, Point, cost_of_tb, make_models, sizing
from bench.price_report import price_report
from bench.prices import Instance, Prices, read_prices
from tests.bench.examples import MIB, measurement, results

SLOW = Instance("slow", hour=0.1, vcpus=1, steady_vcpus=1, memory_gib=1, network_gbps=10)
WIDE = Instance("wide", hour=0.4, vcpus=8, steady_vcpus=8, memory_gib=16, network_gbps=10)
PRICES = Prices("a day", "here", "", 5e-6, 4e-7, {}, (SLOW, WIDE))
BUSY = Assumptions(use=1.0)


def model(cpu: float, *, peak: float = 100 * MIB) -> Model:
    """A server that takes so much CPU time and a request for each MB."""
    return Model("it", [Point(1e6, cpu, {"PutObject": 1}), Point(1e8, 100 * cpu, {"UploadPart": 100})], peak)


def test_what_lies_between_and_beyond_points_is_on_straight_lines() -> None:
    """5 GB are not uploaded for the price of a table."""
    point = model(0.01).at(5.05e7)
    assert (point.cpu, point.calls["PutObject"], point.calls["UploadPart"]) == pytest.approx((0.505, 0.5, 50))
    beyond = model(0.01).at(2e8)
    assert (beyond.cpu, beyond.calls) == (
        pytest.approx(2.0),
        {"PutObject": 0, "UploadPart": pytest.approx(202.02, 0.01)},
    )
    assert model(0.01).at(1000.0).cpu == 0.01


def test_a_tb_costs_requests_and_the_cheapest_machine() -> None:
    """The slower of CPU and network says how long a machine is needed."""
    cost = cost_of_tb(model(0.01), 1e6, PRICES, BUSY)
    assert cost.requests == 1e6
    assert cost.s3 == pytest.approx(5.0)
    assert cost.cpu_seconds == pytest.approx(10_000)
    # 10,000 s on slow's one CPU for 0.1 $/h, or 1,250 s on wide's eight for 0.4 $/h.
    assert (cost.instance.name, cost.limit, cost.machine) == ("wide", "CPU", pytest.approx(0.4 * 1250 / 3600))
    cheap = cost_of_tb(model(0.0001), 1e6, PRICES, BUSY)
    assert (cheap.instance.name, cheap.limit, cheap.machine) == ("slow", "network", pytest.approx(0.1 * 800 / 3600))
    assert cheap.total == pytest.approx(cheap.s3 + cheap.machine)


def test_machines_are_not_used_to_the_full_nor_as_fast_as_here() -> None:
    """Both assumptions make it dearer in proportion."""
    full = cost_of_tb(model(0.01), 1e6, PRICES, BUSY).machine
    assert cost_of_tb(model(0.01), 1e6, PRICES, Assumptions(use=0.5)).machine == pytest.approx(2 * full)
    assert cost_of_tb(model(0.01), 1e6, PRICES, Assumptions(use=1, cpu_factor=3)).machine == pytest.approx(3 * full)


def test_a_load_gets_as_many_instances_as_it_needs() -> None:
    """At 1 GB/s and 0.01 s for a MB it is ten CPUs."""
    found = sizing(model(0.01), 1e6, 1e9, PRICES, BUSY)
    assert (found.instance.name, found.count, found.hour) == ("wide", 2, pytest.approx(0.8))
    assert sizing(model(0.01), 1e6, 1e6, PRICES, BUSY).count == 1


def test_an_instance_without_the_memory_is_not_chosen() -> None:
    """A process for each vCPU, and as much again for everything else."""
    cost = cost_of_tb(model(0.0001, peak=700 * MIB), 1e6, PRICES, BUSY)
    assert cost.instance.name == "wide"


def test_models_come_from_measurements() -> None:
    """One point for each load of whole bodies, by size."""
    large = measurement(load="one", uploads=1, size=2048 * MIB, cpu=2.0, calls={"UploadPart": 342})
    (made,) = make_models(results(large, measurement(), measurement(load="resume", uploads=1)), PRICES)
    assert [(point.size, point.cpu) for point in made.points] == [(MIB, 0.002), (2048 * MIB, 2.0)]
    assert cost_of_tb(made, 5e9, PRICES, BUSY).requests == pytest.approx(342 * TB / (2048 * MIB), rel=0.01)


def test_one_size_makes_no_model() -> None:
    """A line through one point would price 1 MB like 2 GB."""
    assert make_models(results(measurement(), measurement(load="resume")), PRICES) == []


def test_the_report_has_each_size_and_server() -> None:
    """And says whose prices and which CPU it reckons with."""
    both = [measurement(server=server, load=load) for server in ("resumable", "nginx") for load in ("small", "one")]
    both = [evolve(one, uploads=1) if one.load == "one" else one for one in both]
    shown = price_report(results(*both), read_prices(), Assumptions())
    for size in ("1 MB", "100 MB", "5 GB"):
        for server in ("resumable", "nginx"):
            assert f"| {size}, {server} " in shown
    assert read_prices().date in shown
    assert "a processor" in shown
    for store in ("Google Cloud Storage", "Cloudflare R2"):
        assert f"{store}: Standard storage" in shown
    with pytest.raises(ValueError, match="two of the loads"):
        price_report(results(measurement(load="resume")), read_prices(), Assumptions())


def test_other_stores_have_prices_of_their_own() -> None:
    """For the same requests; what deletes costs nothing, and who names no other store gets no table of them."""
    calls = {"UploadPart": 1000.0, "ListParts": 1000.0, "HeadObject": 1000.0, "DeleteObject": 1e6}
    found = {store.name: (store.of_calls(calls), store.storage) for store in read_prices().stores}
    assert found == {
        "Amazon S3": (pytest.approx(0.0104), 0.023),
        "Google Cloud Storage": (pytest.approx(0.0104), 0.02),
        "Cloudflare R2": (pytest.approx(0.00936), 0.015),
    }
    amazon = read_prices()
    assert found["Amazon S3"][0] == pytest.approx(amazon.of_calls(calls))
    both = [measurement(load="small"), measurement(load="one", uploads=1, size=2048 * MIB)]
    assert "other stores" not in price_report(results(*both), evolve(amazon, stores=()), Assumptions())


def test_a_price_table_of_another_form_is_refused(tmp_path: Path) -> None:
    """Readers are to put their own in its place."""
    (tmp_path / "mine.json").write_text('{"date": "today"}')
    with pytest.raises(ValueError, match=r"mine\.json: is not a price table"):
        read_prices(tmp_path / "mine.json")
