"""What ``bench price`` prints."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cost import TB, Assumptions, Model, cost_of_tb, make_models, sizing
from bench.prices import Prices
from bench.results import Results
from bench.table import figure, render

#: Files of these sizes, in bytes.
SIZES = {"1 MB": 1e6, "100 MB": 1e8, "5 GB": 5e9}
#: Bytes a second, all day.
SPEEDS = {"10 MB/s": 1e7, "100 MB/s": 1e8, "1 GB/s": 1e9}
HOURS = 730


def price_report(results: Results, prices: Prices, assumed: Assumptions) -> str:
    """Return the tables, in Markdown.

    :raises ValueError: no server was measured under enough of the loads that a model is made of.
    """
    models = make_models(results, prices)
    if not models:
        raise ValueError(
            "no server was measured under two of the loads small, sixteen and one, so no cost can be computed"
        )
    shown = [
        f"Prices: {prices.region}, {prices.date}. {prices.note}",
        f"CPU: measured {results.date} on {results.machine['processor']}; a vCPU is taken to need "
        f"{assumed.cpu_factor:g} times as long; machines are {assumed.use:.0%} busy.",
        "### A TB taken in, in dollars",
        _costs(models, prices, assumed).rstrip(),
        "### Which instance for which load",
        _sizings(models, prices, assumed).rstrip(),
        _transfer(prices),
    ]
    if prices.stores:
        shown += ["### The same requests in other stores, in dollars for a TB", _stores(models, prices).rstrip()]
        shown += [_sources(prices)]
    return "\n\n".join(shown) + "\n"


def _costs(models: Sequence[Model], prices: Prices, assumed: Assumptions) -> str:
    lines = []
    for name, size in SIZES.items():
        for model in models:
            cost = cost_of_tb(model, size, prices, assumed)
            lines.append(
                [
                    f"{name}, {model.server}",
                    figure(cost.requests),
                    figure(cost.s3),
                    figure(cost.cpu_seconds),
                    f"{cost.instance.name} ({cost.limit})",
                    figure(cost.machine),
                    figure(cost.total),
                ]
            )
    head = ("files, server", "S3 requests", "S3 $", "CPU s", "cheapest instance (limit)", "EC2 $", "total $")
    return render(head, lines)


def _sizings(models: Sequence[Model], prices: Prices, assumed: Assumptions) -> str:
    lines = []
    for size_name, size in SIZES.items():
        for model in models:
            line = [f"{size_name}, {model.server}"]
            for speed in SPEEDS.values():
                found = sizing(model, size, speed, prices, assumed)
                line.append(f"{found.count} x {found.instance.name} ({found.limit}), {figure(found.hour * HOURS)}")
            lines.append(line)
    return render(["files, server", *(f"{speed}: $/month" for speed in SPEEDS)], lines)


def _transfer(prices: Prices) -> str:
    gb = {name: figure(price * 1000) for name, price in prices.transfer.items()}
    return (
        f"Transfer for a TB: from the internet ${gb['internet_in_per_gb']}, to S3 in the same region "
        f"${gb['s3_same_region_per_gb']}; where a load balancer sends it to another zone ${gb['between_zones_per_gb']}, and "
        f"${gb['nat_gateway_per_gb']} where the way to S3 leads through a NAT gateway: have a gateway endpoint for S3, which "
        "costs nothing."
    )


def _stores(models: Sequence[Model], prices: Prices) -> str:
    lines = []
    for size_name, size in SIZES.items():
        for model in models:
            calls = {name: count * TB / size for name, count in model.at(size).calls.items()}
            lines.append([f"{size_name}, {model.server}", *(figure(store.of_calls(calls)) for store in prices.stores)])
    lines.append(["a TB stored for a month", *(figure(store.storage * 1000) for store in prices.stores)])
    return render(["files, server", *(store.name for store in prices.stores)], lines)


def _sources(prices: Prices) -> str:
    return "Where the prices come from. " + " ".join(f"{store.name}: {store.source}." for store in prices.stores)
