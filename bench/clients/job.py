"""A driver's job and its report: JSON on its standard input and output."""

from __future__ import annotations

from attrs import field, frozen


@frozen(kw_only=True)
class Job:
    """An order to a driver."""

    protocol: str
    port: int
    path: str
    tls: bool = False
    #: The beginning of the uploads' names.
    prefix: str
    #: The number of uploads, the bytes of each, and how many run at the same time.
    count: int
    size: int
    concurrency: int = 1
    #: Bytes in each request; 0 for all in one request.
    request_size: int = 0
    #: How often the connection is dropped during an upload.
    breaks: int = 0
    #: Bytes a second for each upload; 0 for as fast as possible.
    rate: int = 0
    #: Status queries a second during the uploads.
    queries: float = 0.0


@frozen(kw_only=True)
class Report:
    """What happened."""

    #: Seconds from the first connection to the last answer.
    seconds: float
    #: Bytes of finished uploads, and bytes that were sent for them.
    size: int
    sent: int
    #: Seconds from an upload's last byte to its answer.
    answers: list[float] = field(factory=list)
    #: Seconds of each status query.
    statuses: list[float] = field(factory=list)
    #: What went wrong, one line for each failure.
    failures: list[str] = field(factory=list)
    #: Name of each finished upload -> its session.
    sessions: dict[str, str] = field(factory=dict)
