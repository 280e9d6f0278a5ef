"""A client of the put protocol: uploads that go on by themselves after whatever broke them off.

``await upload("film.mp4", "https://up.example.com/upload/film.mp4")`` is all that most callers need. The command
``resumable put`` is made of the same.
"""

from __future__ import annotations

from resumable.client.api import Result, upload
from resumable.client.errors import Busy, Changed, ClientError, Failed, GaveUp, Refused
from resumable.client.limiter import Limiter
from resumable.client.tracker import Progress

__all__ = [
    "Busy",
    "Changed",
    "ClientError",
    "Failed",
    "GaveUp",
    "Limiter",
    "Progress",
    "Refused",
    "Result",
    "upload",
]
