"""Headers that are nearly right, or nonsense: what is malformed counts as absent, and nothing is ever a fault of the service."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.web.http_headers import Headers

from resumable.model import State
from resumable.protocols.ietf.fields import Fields, read_fields
from tests.protocols.harness import Memory, memory_service
from tests.protocols.ietf.talk import DATA, PARTIAL, begin

NAMES = ("Upload-Complete", "Upload-Incomplete", "Upload-Offset", "Upload-Length", "Upload-Draft-Interop-Version")
NONSENSE = st.text(st.characters(min_codepoint=1, max_codepoint=255, exclude_characters="\r\n"), max_size=20)
#: Values of structured fields of every type, and what is none.
VALUES = st.one_of(
    st.sampled_from(["?0", "?1", "?1;a=1", "?2", "?", "0", "42", "9", "3", "6", "-1", "-0", "007", "42;a=b", "4 2"]),
    st.sampled_from(["1.5", '"42"', ":NDI=:", "@42", "token", "()", "a=1", "42,42", "9" * 15, "9" * 16, "1e3", "+1"]),
    st.sampled_from(["\xb2", "\u0663".encode().decode("latin-1"), "%22", '%"a"', ":=:", "@99999999999999", "", " "]),
    st.integers(-(10**20), 10**20).map(str),
    NONSENSE,
)


def headers_of(said: dict[str, list[str]]) -> Headers:
    return Headers({name: [value.encode("latin-1") for value in values] for name, values in said.items()})


@given(st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=2)))
@settings(max_examples=100)
def test_reading_never_raises_and_knows_only_what_it_should(said: dict[str, list[str]]) -> None:
    read = read_fields(headers_of(said))
    for number in (read.offset, read.length):
        assert number is None or 0 <= number < 10**15
    assert read.version is None or read.version in range(3, 10)


@given(st.sampled_from(NAMES), st.lists(NONSENSE.filter(lambda text: not text.strip(" ")[:1].isdigit()), min_size=1))
def test_nonsense_is_as_absent(name: str, values: list[str]) -> None:
    wellformed = [value for value in values if value.strip(" ")[:2] in ("?0", "?1") or value.strip(" ")[:1] == "-"]
    if not wellformed:
        assert read_fields(headers_of({name: values})) == Fields()


@given(st.integers(0, 10**15 - 1), st.sampled_from(["", ";a", ";a=1;b=?0", "  "]))
def test_what_is_well_formed_is_read(number: int, parameters: str) -> None:
    read = read_fields(headers_of({"Upload-Offset": [f"{number}{parameters}"], "Upload-Complete": [f"?1{parameters}"]}))
    assert (read.offset, read.complete, read.length) == (number, True, None)


REQUESTS = st.tuples(
    st.sampled_from(["POST", "PUT", "PATCH", "HEAD", "GET", "DELETE", "OPTIONS"]),
    st.sampled_from(["/upload", "/upload/n", "the upload", "the upload", "the finished", "/files/none", "*"]),
    st.dictionaries(st.sampled_from(NAMES), st.lists(VALUES, min_size=1, max_size=2)),
    st.sampled_from(
        [PARTIAL, PARTIAL, "Content-Type: text/plain", "X: y", "Content-Disposition: inline; filename=\x01"]
    ),
    st.sampled_from([b"", DATA, DATA[20:], DATA[:5]]),
)


@ensureDeferred
async def test_never_a_fault_and_never_a_lost_byte() -> None:
    """Whatever is said: an answer below 500, nothing is complete that was not said to be, and what was stored stays."""
    async with memory_service() as service:

        async def one(method: str, target: str, said: dict[str, list[str]], more: str, body: bytes) -> None:
            path = await begin(service, DATA[:20], length=len(DATA), name="kept")
            before = await service.parts.ledger.get(path.rpartition("/")[2])
            assert before is not None
            lines = [f"{name}: {value}" for name, values in said.items() for value in values]
            if target == "the finished":
                done = await service.ask("PUT", "/upload/done", ["Upload-Complete: ?1"], DATA)
                target = f"/files/{done.json['id']}"
            to = path if target == "the upload" else target
            answer = await service.ask(method, to, [*lines, more], body)
            assert answer.status < 500, (method, to, lines, answer)
            await check(service, before.id, headers_of(said))

        await hammer(one)


async def check(service: Memory, upload_id: str, said: Headers) -> None:
    """The upload has what it had, or more; it is finished only by one who says so, and gone only by one who may."""
    after = await service.parts.uploads.get(upload_id, "")
    if after.state is State.FINISHED:
        assert read_fields(said).complete is not False
    if after.state is State.OPEN:
        report = await service.parts.uploads.report(after)
        assert report.offset >= 20
        assert after.announced == len(DATA)


async def hammer(one: Any) -> None:
    """Have hypothesis find requests, in a thread, which are made here."""

    @given(REQUESTS)
    @settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    def run(request: Any) -> None:
        blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(one(*request)))  # type: ignore[arg-type]

    await deferToThread(run)
