"""A client of Resumable Uploads for HTTP, for tests in memory."""

from __future__ import annotations

from typing import Any

from resumable.model import Upload
from tests.protocols.harness import Answer, Memory, parse_answers, until
from tests.web.wire import Wire, chunked

DATA = b"hello, these are bytes of three chunks: 48"
#: As the drafts' media type is said.
PARTIAL = "Content-Type: application/partial-upload"
MISMATCH = "https://iana.org/assignments/http-problem-types#mismatching-upload-offset"
INCONSISTENT = "https://iana.org/assignments/http-problem-types#inconsistent-upload-length"
COMPLETED = "https://iana.org/assignments/http-problem-types#completed-upload"


def version(number: object) -> str:
    """The header that names the interop version."""
    return f"Upload-Draft-Interop-Version: {number}"


async def begin(service: Memory, body: bytes = b"", *headers: str, name: str = "n", length: int | None = None) -> str:
    """The path of a new upload that is not complete."""
    said = ["Upload-Complete: ?0", *headers]
    if length is not None:
        said.append(f"Upload-Length: {length}")
    answer = await service.ask("POST", f"/upload/{name}", said, body)
    assert answer.status == 201, answer
    location = answer.header("Location")
    assert location is not None
    return location.removeprefix("http://test")


async def patch(
    service: Memory, path: str, offset: object, body: bytes, complete: str, *headers: str, kind: str = PARTIAL
) -> Answer:
    """The answer to more bytes."""
    said = [kind, f"Upload-Offset: {offset}", f"Upload-Complete: {complete}", *headers]
    return await service.ask("PATCH", path, said, body)


async def send_chunked(service: Memory, method: str, path: str, headers: list[str], *segments: bytes) -> Answer:
    """The answer to a chunked body."""
    wire = service.connect()
    start(wire, method, path, [*headers, "Transfer-Encoding: chunked"])
    wire.send(chunked(*segments))
    return (await answers(wire))[-1]


def start(wire: Wire, method: str, path: str, headers: list[str]) -> None:
    """Send the head of a request."""
    wire.send("\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *headers, "", ""]).encode("latin-1"))


async def answers(wire: Wire) -> list[Answer]:
    """All answers on a connection, when the final one is there: what is interim comes before it."""
    await until(lambda: any(one.status >= 200 for one in parse_answers(wire.said)))
    return parse_answers(wire.said)


async def interim(wire: Wire, count: int = 1) -> list[Answer]:
    """The interim answers 104, when there are so many."""

    def all_of_them() -> list[Answer]:
        return [one for one in parse_answers(wire.said) if one.status == 104]

    await until(lambda: len(all_of_them()) >= count)
    return all_of_them()


async def state(service: Memory, path: str, *headers: str) -> tuple[int, str | None, str | None]:
    """Status, offset and completeness as HEAD says them."""
    answer = await service.ask("HEAD", path, [version(9), *headers])
    return answer.status, answer.header("Upload-Offset"), answer.header("Upload-Complete")


async def row(service: Memory, path: str) -> Upload:
    """The upload as the ledger has it."""
    upload = await service.parts.ledger.get(path.rpartition("/")[2])
    assert upload is not None
    return upload


def stored(service: Memory, name: str) -> Any:
    """The bytes of the object under the name; None if there is none."""
    found = service.parts.bucket.objects.get(name)
    return None if found is None else found[0]
