"""The price table: prices of AWS, and of other stores' requests, at a date. It is a data file that can be replaced."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from bench.sink.operations import FREE, PUT_CLASS

TABLE = Path(__file__).with_name("prices.json")


@frozen
class Instance:
    """A kind of machine."""

    name: str
    #: Dollars for an hour.
    hour: float
    vcpus: int
    #: The vCPUs that may be used all the time. A burstable instance has fewer of them.
    steady_vcpus: float
    memory_gib: float
    #: Gbit/s that may be used all the time, in each direction.
    network_gbps: float


@frozen
class StorePrices:
    """What one store charges, in dollars. Its makers' classes A and B are S3's: what stores and lists, and what reads."""

    name: str
    #: For one request.
    put_class: float
    get_class: float
    #: For a GB (10^9 bytes) that is stored for a month.
    storage: float
    #: Where the prices come from.
    source: str

    def of_calls(self, calls: Mapping[str, float]) -> float:
        """Return the price of calls, given how many there are of each name."""
        prices = {name: self.put_class if name in PUT_CLASS else self.get_class for name in calls if name not in FREE}
        return sum(calls[name] * price for name, price in prices.items())


@frozen
class Prices:
    """The table, in dollars."""

    date: str
    region: str
    note: str
    #: For one request.
    put_class: float
    get_class: float
    #: For a GB (10^9 bytes).
    transfer: Mapping[str, float]
    instances: tuple[Instance, ...]
    #: Of all stores, Amazon S3 among them; empty if the table names none.
    stores: tuple[StorePrices, ...] = ()

    def of_call(self, name: str) -> float:
        """Return the price of one S3 call."""
        if name in FREE:
            return 0.0
        return self.put_class if name in PUT_CLASS else self.get_class

    def of_calls(self, calls: Mapping[str, float]) -> float:
        """Return the price of S3 calls, given how many there are of each name."""
        return sum(count * self.of_call(name) for name, count in calls.items())


def read_prices(path: Path = TABLE) -> Prices:
    """Read the price table in a file.

    :raises ValueError: the file is not a price table.
    """
    try:
        table = json.loads(path.read_text())
        return Prices(
            date=table["date"],
            region=table["region"],
            note=table["note"],
            put_class=table["s3"]["put_class_per_1000"] / 1000,
            get_class=table["s3"]["get_class_per_1000"] / 1000,
            transfer=table["transfer"],
            instances=tuple(Instance(**one) for one in table["instances"]),
            stores=tuple(_read_store(one) for one in table.get("stores", ())),
        )
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is not a price table: {error}") from None


def _read_store(row: Mapping[str, Any]) -> StorePrices:
    return StorePrices(
        name=row["name"],
        put_class=row["put_class_per_1000"] / 1000,
        get_class=row["get_class_per_1000"] / 1000,
        storage=row["storage_gb_month"],
        source=row["source"],
    )
