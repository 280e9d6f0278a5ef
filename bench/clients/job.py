"""What a driver is told, and what it reports: JSON on its standard input and output."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class Job:
    """An order to a driver."""

    protocol: str
    port: int
    path: str
    tls: bool = False
    #: What the names of the uploads begin with.
    prefix: str
    #: Uploads, bytes of each, and uploads at the same time.
    count: int
    size: int
    concurrency: int = 1
    #: Bytes in a request; 0 for all in one.
    request_size: int = 0
    #: How often the connection is dropped on the way.
    breaks: int = 0
    #: Bytes in a second for each upload; 0 for as fast as it goes.
    rate: int = 0
    #: Status queries in a second meanwhile.
    queries: float = 0.0


@frozen(kw_only=True)
class Report:
    """What happened."""

    #: Seconds from the first connection to the last answer.
    seconds: float
    #: Bytes of finished uploads, and bytes sent for them.
    size: int
    sent: int
    #: Seconds from an upload's last byte to its answer.
    answers: list[float] = field(factory=list)
    #: Seconds of each status query.
    statuses: list[float] = field(factory=list)
    #: What went wrong, each a line.
    failures: list[str] = field(factory=list)
    #: Names of finished uploads to their sessions.
    sessions: dict[str, str] = field(factory=dict)
