"""How clients speak to each kind of server. A session is the path (and query) under which an upload goes on."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import urlsplit

from bench.clients.wire import Answer, Connection, head


class Refused(Exception):
    """The server did not answer as the protocol says."""


class Protocol:
    """One way of uploading.

    :param path: the beginning of every request's path, with a slash at its end.
    """

    name: ClassVar[str]
    #: Whether a broken-off upload can go on.
    resumes: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.path = path

    def begin(self, connection: Connection, name: str, size: int) -> str:
        """Announce an upload of `size` bytes, and return its session."""
        return self.path + name

    def head(self, session: str, first: int, end: int, size: int, *, resumed: bool = False) -> bytes:
        """Return the head of the request that brings the bytes from `first` to `end` (exclusive) out of `size`.

        :param resumed: whether the upload was begun by an earlier request.
        """
        raise NotImplementedError

    def check(self, answer: Answer, end: int, size: int) -> None:
        """Check the answer to a request that brought the upload to offset `end`.

        :raises Refused: the answer is not a success.
        """
        expected = self.finished if end == size else self.unfinished
        if answer.status not in expected:
            raise Refused(f"{answer.status} after byte {end} of {size}: {answer.body[:200]!r}")

    finished: ClassVar[tuple[int, ...]] = (200, 201)
    unfinished: ClassVar[tuple[int, ...]] = (308,)

    def offset(self, connection: Connection, session: str, size: int) -> int:
        """Ask how many bytes of the upload are stored.

        :raises Refused: the server does not say.
        """
        raise NotImplementedError


class Plain(Protocol):
    """Plain PUTs through a proxy, each of which stores an object of its own."""

    name = "plain"
    resumes = False
    unfinished = (200,)

    def head(self, session: str, first: int, end: int, size: int, *, resumed: bool = False) -> bytes:
        name = session if end - first == size else f"{session}.{first}"
        return head("PUT", name, {"Content-Length": end - first})


class Put(Protocol):
    """PUT with Content-Range on a name."""

    name = "put"

    def head(self, session: str, first: int, end: int, size: int, *, resumed: bool = False) -> bytes:
        headers: dict[str, str | int] = {"Content-Length": end - first}
        # Without Content-Range a PUT begins the upload anew.
        if resumed or end - first != size:
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        return head("PUT", session, headers)

    def offset(self, connection: Connection, session: str, size: int) -> int:
        return stored(connection.request("PUT", session, {"Content-Range": f"bytes */{size}"}), size)


class Google(Put):
    """Google's resumable uploads: a POST opens a session, which takes PUTs with Content-Range."""

    name = "google"

    def begin(self, connection: Connection, name: str, size: int) -> str:
        headers: Mapping[str, str | int] = {
            "Content-Type": "application/json",
            "X-Upload-Content-Type": "application/octet-stream",
            "X-Upload-Content-Length": size,
        }
        body = f'{{"name": "{name}"}}'.encode()
        return location(connection.request("POST", f"{self.path}?uploadType=resumable", headers, body))

    def head(self, session: str, first: int, end: int, size: int, *, resumed: bool = False) -> bytes:
        content_range = f"bytes {first}-{end - 1}/{size}"
        return head("PUT", session, {"Content-Length": end - first, "Content-Range": content_range})


class Tus(Protocol):
    """tus 1.0.0."""

    name = "tus"
    finished = (204,)
    unfinished = (204,)

    def begin(self, connection: Connection, name: str, size: int) -> str:
        metadata = f"filename {b64encode(name.encode()).decode()}"
        headers: Mapping[str, str | int] = {"Upload-Length": size, "Upload-Metadata": metadata}
        return location(connection.request("POST", self.path, {"Tus-Resumable": "1.0.0", **headers}))

    def head(self, session: str, first: int, end: int, size: int, *, resumed: bool = False) -> bytes:
        headers = {"Upload-Offset": first, "Content-Length": end - first}
        kind = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}
        return head("PATCH", session, {**kind, **headers})

    def offset(self, connection: Connection, session: str, size: int) -> int:
        answer = connection.request("HEAD", session, {"Tus-Resumable": "1.0.0"})
        if answer.status not in (200, 204) or "upload-offset" not in answer.headers:
            raise Refused(f"{answer.status} to a status query")
        return int(answer.headers["upload-offset"])


def location(answer: Answer) -> str:
    """Return path and query of the answer's Location.

    :raises Refused: there is no Location.
    """
    if answer.status not in (200, 201) or "location" not in answer.headers:
        raise Refused(f"{answer.status} to the creation: {answer.body[:200]!r}")
    url = urlsplit(answer.headers["location"])
    return url.path + (f"?{url.query}" if url.query else "")


def stored(answer: Answer, size: int) -> int:
    """Return how many bytes are stored, according to an answer with 308 and Range, or with 200.

    :raises Refused: the answer does not say.
    """
    if answer.status in (200, 201):
        return size
    if answer.status != 308:
        raise Refused(f"{answer.status} to a status query")
    found = re.search(r"0-(\d+)", answer.headers.get("range", ""))
    return int(found[1]) + 1 if found else 0


PROTOCOLS: Mapping[str, type[Protocol]] = {kind.name: kind for kind in (Plain, Put, Google, Tus)}
