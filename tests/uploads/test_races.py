"""Whoever races: clients whose files change, two with different bytes, names taken again, late answers, dead processes.

A state machine of Hypothesis over one key: several processes (or one) on one ledger and one store in memory, clients of the
protocol `put` and of sessions, on chunks of 16 bytes. `tests.uploads.racing.Record` says what was wrong.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, TypeVar, cast

import pytest
import pytest_twisted
from attrs import define
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.model import Conflict, State, Superseded, Unavailable, Upload, UploadError
from resumable.stores.port import Fence, StoreUnavailable
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads import claims, marks
from resumable.uploads.policy import CreateRequest
from resumable.uploads.registry import Span
from tests.databases import Postgres
from tests.stateful import every_time
from tests.uploads.conftest import DATA, Node
from tests.uploads.memory_store import CALLS, Bucket
from tests.uploads.racing import CHUNK, EVERY, KEY, Process, Record, Sent, seconds
from tests.uploads.test_states import Body, certain

T = TypeVar("T")
LEASE = 0.6
#: Seconds that anything may take. What is longer hangs.
PATIENCE = 20.0
OTHER = random.Random(6).randbytes(len(DATA))

SIZES = st.sampled_from([0, 1, 5, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 5])
#: Of what is begun, to be gone on with.
LONGER = st.sampled_from([5, CHUNK, 2 * CHUNK, 3 * CHUNK + 5, 3 * CHUNK + 5, 4 * CHUNK])
WHO = st.integers(0, 9)
#: Which client: mostly the one that was there last.
WHICH = st.sampled_from([0, 0, 0, 0, 1, 2, 5])
#: How a request goes: to its end; broken off; silent before its end; to its end, and nobody waits for that.
HOW = st.sampled_from(["whole", "whole", "broken", "silent", "aside"])
BREAKS = st.sampled_from(["broken", "broken", "broken", "silent", "whole", "aside"])
#: What becomes of the file before it is sent again.
CHANGE = st.sampled_from(["same", "byte", "wholly", "length"])


def run(doing: Coroutine[Any, Any, T]) -> T:
    """Have the reactor's thread do it, soon: Hypothesis has a thread of its own."""

    def begin() -> Deferred[T]:
        return Deferred.fromCoroutine(doing).addTimeout(PATIENCE, reactor)  # type: ignore[arg-type]

    return cast(T, blockingCallFromThread(reactor, begin))  # type: ignore[arg-type]


@define(eq=False)
class Client:
    """Somebody with a file.

    :ivar session: the id of its upload, if it is known by that.
    """

    data: bytes
    session: str | None = None
    swarm: bool = False


class Races(RuleBasedStateMachine):
    """Clients race for one key.

    No rule has a precondition, for how far something has come depends on the ledger's threads. A rule that does not fit does
    nothing.
    """

    processes = 1
    nodes = False
    #: What was found.
    found: ClassVar[list[str]] = []

    @staticmethod
    def new_ledger(directory: str) -> str:
        """The URL of the ledger, which may be in the directory."""
        return f"sqlite:///{directory}/ledger.sqlite3"

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self._url = self.new_ledger(self._directory.name)
        self._bucket = Bucket()
        self._record = Record()
        self._random = random.Random(14)
        self._clients: list[Client] = []
        self._open: list[tuple[Sent, Deferred[Any]]] = []
        self._dead: list[Process] = []
        self._begun: list[Deferred[Any]] = []
        self._alive = [run(self._started()) for _ in range(self.processes)]
        #: Looks at the ledger, and never dies.
        self._looker = run(self._started())

    async def _started(self) -> Process:
        process = Process(self._url, self._bucket, self._record, nodes=self.nodes)
        while self.nodes and not process.peers._listener.listening:  # type: ignore[union-attr]
            await seconds(0.01)
        return process

    def _process(self, who: int) -> Process:
        self._bury()
        return self._alive[who % len(self._alive)]

    def _by(self, process: Process, doing: Coroutine[Any, Any, T]) -> T | None:
        """Have a process do it; None if it dies over that."""

        async def wait() -> T | None:
            done = Deferred.fromCoroutine(doing)
            while not done.called and not process.dead:
                await seconds(0.001)
            if done.called:
                return await done
            done.addErrback(lambda _: None)
            self._begun.append(done)
            return None

        outcome = run(wait())
        self._bury()
        return outcome

    def _bury(self) -> None:
        """Start a process in the place of each that has died."""
        for at, process in enumerate(self._alive):
            if process.dead:
                # What it had under way in the ledger has come to its end then.
                run(process.database.close())
                self._dead.append(process)
                for sent, _ in self._open:
                    if sent.process is process and sent.upload_id is not None:
                        self._record.begun(sent.upload_id, sent)
                self._open = [(sent, done) for sent, done in self._open if sent.process is not process]
                self._alive[at] = run(self._started())

    # Requests

    def _send(
        self, process: Process, client: Client, first: int, end: int, how: str, *, cut: int = 0, ranged: bool = True
    ) -> Sent:
        data = client.data
        stop = min(end, first + cut) if how in ("broken", "silent") else end
        body = Body(data[first:stop], 7, drop=stop < end, stall=how == "silent")
        sent = Sent(process, data, first, end, body, self._record.tick(), length=end - first)
        headers = sent.requestHeaders
        if ranged:
            headers.setRawHeaders(b"content-range", [b"bytes %d-%d/%d" % (first, end - 1, len(data))])
        else:
            headers.setRawHeaders(b"content-length", [b"%d" % (end - first)])
        if client.swarm:
            headers.setRawHeaders(b"upload-swarm", [b"?1"])
        self._record.sent.append(sent)
        quiet = not self._open and not self._dying
        before = run(self._looker.all_pieces()) if quiet else {}

        async def wait() -> None:
            while not done.called and not process.dead:
                await seconds(0.001)

        # (A Deferred that a coroutine returns would be waited for.)
        started: list[Deferred[Any]] = []

        async def keep() -> None:
            started.append(Deferred.fromCoroutine(process.serve(sent, client.session)))
            started[0].addErrback(self._unexpected, sent)

        run(keep())
        (done,) = started
        self._begun.append(done)
        if how in ("silent", "aside"):
            self._open.append((sent, done))
            return sent
        try:
            run(wait())
        except Exception as error:
            raise AssertionError(f"no answer to {sent}") from error
        if process.dead:
            self._open.append((sent, done))
            self._bury()
        elif quiet and isinstance(sent.error, Conflict) and not sent.swarm:
            after = run(self._looker.all_pieces())
            self._check({one: after.get(one) for one in before} == before, f"{sent} has altered something")
        return sent

    @property
    def _dying(self) -> bool:
        return any(process.dead or process.store.next is not None for process in self._alive)

    def _check(self, right: bool, why: object) -> None:
        """Hypothesis tries again what has failed, and says less if it does not fail then: remember the first time."""
        if not right:
            steps = [*map(repr, self._record.events), *map(repr, self._record.sent), str(self._bucket.objects.get(KEY))]
            self.found.append("\n".join([str(why), *steps]))
            raise AssertionError(self.found[-1])

    def _unexpected(self, failure: Any, sent: Sent) -> None:
        if not sent.process.dead:
            self._record.wrong.append(f"{sent}: {failure.getTraceback()}")

    def _fresh(self, size: int) -> bytes:
        return self._random.randbytes(size)

    def _client(self, which: int) -> Client | None:
        return self._clients[-1 - which % len(self._clients)] if self._clients else None

    def _changed(self, client: Client, change: str, at: int) -> Client:
        """A client who has another file by now, or the same."""
        data = client.data
        if change == "byte" and data:
            at %= len(data)
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        elif change == "wholly":
            data = self._fresh(len(data))
        elif change == "length":
            data = self._fresh(len(data) + 3)
        changed = Client(data, client.session, client.swarm)
        self._clients.append(changed)
        return changed

    @rule(who=WHO, size=SIZES, how=HOW, cut=st.integers(0, 4 * CHUNK))
    def put(self, who: int, size: int, how: str, cut: int) -> None:
        """A whole object in one body, of bytes that nobody has sent before."""
        client = Client(self._fresh(size))
        self._clients.append(client)
        self._send(self._process(who), client, 0, size, how, cut=cut, ranged=False)

    @rule(who=WHO, which=WHICH, how=HOW)
    def put_again(self, who: int, which: int, how: str) -> None:
        """The same file once more."""
        client = self._client(which)
        if client is not None and client.session is None and not client.swarm:
            self._send(self._process(who), client, 0, len(client.data), how, cut=5, ranged=False)

    @rule(who=WHO, size=LONGER, how=BREAKS, cut=st.integers(0, 4 * CHUNK), swarm=st.booleans())
    def begin(self, who: int, size: int, how: str, cut: int, swarm: bool) -> None:
        """The first range of a file that nobody has sent before."""
        client = Client(self._fresh(size), swarm=swarm)
        self._clients.append(client)
        self._send(self._process(who), client, 0, len(client.data), how, cut=cut)

    @rule(who=WHO, size=LONGER, how=BREAKS, cut=st.integers(0, 4 * CHUNK), swarm=st.booleans())
    def begin_session(self, who: int, size: int, how: str, cut: int, swarm: bool) -> None:
        """An upload that is known by its id, of the same key."""
        process, data = self._process(who), self._fresh(size)
        upload = self._by(process, process.create_session(len(data), swarm=swarm))
        if upload is None:
            return
        client = Client(data, upload.id)
        self._clients.append(client)
        self._send(process, client, 0, len(data), how, cut=cut)

    @rule(who=WHO, which=WHICH, how=HOW, cut=st.integers(1, 3 * CHUNK), less=st.integers(0, CHUNK))
    def go_on(self, who: int, which: int, how: str, cut: int, less: int) -> None:
        """From the offset that is told, with the same file; perhaps not to its end."""
        client = self._client(which)
        if client is None:
            return
        process = self._process(who)
        report = self._by(process, process.look(client.session))
        size = len(client.data)
        if report is None or report.upload.length != size or report.offset >= size:
            return
        end = max(report.offset + 1, size - less)
        self._send(process, client, report.offset, end, how, cut=cut)

    @rule(who=WHO, which=WHICH, how=HOW, cut=st.integers(0, 4 * CHUNK), change=CHANGE, at=st.integers(0, 4 * CHUNK))
    def begin_again(self, who: int, which: int, how: str, cut: int, change: str, at: int) -> None:
        """At byte 0."""
        client = self._client(which)
        if client is not None and client.data:
            client = self._changed(client, change, at)
            self._send(self._process(who), client, 0, len(client.data), how, cut=cut)

    @rule(
        who=WHO,
        which=WHICH,
        how=HOW,
        back=st.integers(1, 2 * CHUNK),
        size=st.integers(1, 3 * CHUNK),
        change=CHANGE,
        at=st.integers(0, 4 * CHUNK),
    )
    def overlap(self, who: int, which: int, how: str, back: int, size: int, change: str, at: int) -> None:
        """From an offset before what is stored, with the same bytes or others."""
        client = self._client(which)
        if client is None or not client.data or change == "length":
            return
        process = self._process(who)
        report = self._by(process, process.look(client.session))
        if report is None or report.upload.length != len(client.data):
            return
        client = self._changed(client, change, at)
        first = max(0, min(report.offset, len(client.data)) - back)
        self._send(process, client, first, min(first + size, len(client.data)), how, cut=size // 2)

    @rule(who=WHO, which=WHICH, how=HOW, first=st.integers(0, 4 * CHUNK), size=st.integers(1, 4 * CHUNK), change=CHANGE)
    def swarm(self, who: int, which: int, how: str, first: int, size: int, change: str) -> None:
        """One of many connections of one upload: any range."""
        client = self._client(which)
        if client is None or not client.data or change == "length":
            return
        client = self._changed(client, change, first)
        client.swarm = True
        first %= len(client.data)
        self._send(self._process(who), client, first, min(first + size, len(client.data)), how, cut=size // 2)

    @rule(who=WHO)
    def delete(self, who: int) -> None:
        """Cancel the name's upload, or forget it."""
        process = self._process(who)
        self._check(self._by(process, process.delete()) in (204, 404, 503, None), "DELETE has another answer")

    @rule(who=WHO, which=WHICH)
    def cancel_session(self, who: int, which: int) -> None:
        client = self._client(which)
        if client is not None and client.session is not None:
            process, session = self._process(who), client.session

            async def cancel() -> None:
                await process.uploads.cancel(await process.uploads.get(session, ""))

            self._by(process, cancel())

    @rule(who=WHO)
    def ask(self, who: int) -> None:
        process = self._process(who)
        self._by(process, process.look())

    @rule()
    def end_the_silence(self) -> None:
        """The silent break off, or come to their end; who goes on aside is waited for."""
        self._bury()
        self._end_all()

    def _end_all(self) -> None:
        opened, self._open = self._open, []
        for sent, _ in opened:
            blockingCallFromThread(reactor, sent.body.go_on)  # type: ignore[arg-type]

        async def wait() -> None:
            while any(not done.called and not sent.process.dead for sent, done in opened):
                await seconds(0.001)

        try:
            run(wait())
        except Exception as error:
            left = [sent for sent, done in opened if not done.called]
            raise AssertionError(f"no answer to {left}") from error
        self._open += [(sent, done) for sent, done in opened if sent.process.dead]
        self._bury()

    # What goes wrong, and what is done by the clock

    @rule(who=WHO, call=st.sampled_from(CALLS), when=st.sampled_from(["before", "after"]))
    def trouble(self, who: int, call: str, when: str) -> None:
        """The next call of this kind fails, with its work done or not."""
        self._process(who).store.trouble.append((call, when))

    @rule(
        who=WHO, what=st.sampled_from(["busy", "slow", "slow answer", "late", "late", "dies"]), some=st.integers(0, 8)
    )
    def race(self, who: int, what: str, some: int) -> None:
        """What happens to the next call that makes, or removes, an object under the key."""
        # Nothing takes effect later than a lease after the last sign of life: there is no fence against that. When a call
        # begins, that sign may be half a lease old, and who dies gives none after it.
        self._process(who).store.next = (what, some * LEASE / (24 if what == "dies" else 12))

    @rule(who=WHO)
    def die(self, who: int) -> None:
        """Kill a process: nothing that it has under way goes on. Another takes its place."""
        blockingCallFromThread(reactor, self._process(who).die)  # type: ignore[arg-type]
        self._bury()

    @rule(who=WHO)
    def be_checkpointed(self, who: int) -> None:
        process = self._process(who)
        for _ in range(2):
            self._by(process, process.uploads.writing.checkpoint())

    @rule(who=WHO)
    def finish(self, who: int) -> None:
        """Recovery by the clock."""
        self._round(self._process(who))

    def _round(self, process: Process) -> None:
        self._by(process, process.recovery.round(idle=-1))

    # What is right

    @invariant()
    def nothing_was_wrong(self) -> None:
        self._check(not self._record.wrong, "\n".join(self._record.wrong))

    @invariant()
    def no_offset_went_down(self) -> None:
        self._bury()
        record, process = self._record, self._looker

        async def lower() -> list[str]:
            anews, floors, found = record.anews, dict(record.floors), []
            for upload_id, floor in floors.items():
                upload = await process.ledger.get(upload_id)
                assert upload is not None
                if upload.live:
                    report = await process.uploads.report(upload)
                    if report.offset < floor:
                        found.append(f"{upload_id} was at {floor}, and is at {report.offset} in {upload.state}")
            return found if anews == record.anews else []

        found = run(lower())
        self._check(not found, found)

    @invariant()
    def the_object_is_right(self) -> None:
        """It is what the last client sent that was told so, unless another's making has come after."""
        self._object_is_right(over=False)

    def _object_is_right(self, *, over: bool) -> None:
        async def looked() -> str | None:
            # In the reactor's thread, where nothing comes in between.
            record = self._record
            standing = {record.token_of(one) for one in record.standing()}
            made_at = [event.at for event in record.events if event.token in standing and event.data is not None]
            if not record.events:
                return "somebody was told, though nothing was made" if standing else None
            last = record.events[-1]
            if last.token in standing:
                return "the object of the last who was told is gone" if last.data is None else None
            # Another has come after them: it may be finished though nobody was told, or is under way, or was undone.
            uploads: dict[str, Upload] = {one.token: one for one in await self._looker.all_uploads()}
            state = uploads[last.token].state
            if made_at and last.at < max(made_at):
                return f"an object of {last.token} ({state}) after it was another's"
            undone = last.data is None and state is not State.FINISHED
            return None if undone or state is State.FINISHED or not over else f"the object is of an upload that {state}"

        why = run(looked())
        self._check(why is None, why)

    def teardown(self) -> None:
        """With no more trouble everything ends, and nothing but the object is left."""
        try:
            self._bury()
            for process in self._alive:
                process.store.trouble.clear()
                process.store.next = None
            self._end_all()
            self._end_well()
        finally:
            for process in (*self._alive, self._looker):
                blockingCallFromThread(reactor, process.die)  # type: ignore[arg-type]
                run(process.database.close())
            run(self._unwound())
            self._directory.cleanup()

    async def _unwound(self) -> None:
        for sent in self._record.sent:
            sent.body.go_on()
        for process in (*self._dead, *self._alive):
            process.store.grave.unwind()
        # (What was handed to a ledger's threads when the process died has no end.)
        for _ in range(50):
            if all(done.called for done in self._begun):
                break
            await seconds(0.002)

    def _end_well(self) -> None:
        process = self._alive[0]

        async def cancel_open() -> None:
            for upload in await process.all_uploads():
                if upload.state is State.OPEN:
                    await process.uploads.cancel(upload)

        async def settle() -> None:
            for one in self._alive:
                await one.deps.background.settle()

        def left() -> list[Upload]:
            return [one for one in run(self._looker.all_uploads()) if one.live or one.claim is not None]

        run(cancel_open())
        for _ in range(4):
            run(process.all_due())
            self._round(process)
            run(settle())
            if not left():
                break
        self._check(left() == [], f"left: {left()}")
        self.nothing_was_wrong()
        self._object_is_right(over=True)
        last = Client(self._fresh(CHUNK + 1))
        sent = self._send(process, last, 0, len(last.data), "whole", ranged=False)
        self._check(sent.status == 200, sent)
        self._check(self._bucket.objects[KEY][0] == last.data, "another object")
        run(settle())
        fragments = [key for key in self._bucket.objects if key.startswith(".resumable/")]
        self._check(not fragments, f"left: {fragments}")
        # One whose id was in an answer that was lost has no parts.
        parts = [parts for _, _, parts in self._bucket.multiparts.values() if parts]
        self._check(not parts, f"left: {parts}")
        self.nothing_was_wrong()


class Workers(Races):
    """Two processes that cannot tell each other anything."""

    processes = 2


class TwoNodes(Workers):
    """Two that can."""

    nodes = True


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        (Races, 15),
        (Workers, 15),
        pytest.param(TwoNodes, 20, marks=pytest.mark.soak),
    ],
)
# (What a process that has died had under way never ends.)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest_twisted.ensureDeferred
async def test_whoever_races(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, machine: type[Races], examples: int
) -> None:
    """Every example is some twenty-five steps, always the same ones."""
    monkeypatch.setattr(claims, "LEASE", LEASE)
    monkeypatch.setattr(claims, "BEAT", 0.15)
    monkeypatch.setattr(claims, "LOOK", 0.02)
    monkeypatch.setattr(marks, "EVERY", EVERY)
    if machine.nodes:
        server: Postgres = request.getfixturevalue("postgres")
        machine = type("OnPostgres", (machine,), {"new_ledger": staticmethod(lambda directory: server.new())})
    how = every_time(examples, 25, shrinks=False)
    machine.found.clear()
    try:
        await deferToThread(run_state_machine_as_test, machine, settings=how)
    except Exception:
        if not machine.found:
            raise
        raise AssertionError(machine.found[0]) from None


class Late:
    """The next object of a node is made when the test says so; the call is never answered."""

    def __init__(self, node: Node) -> None:
        self.land: Callable[[], object] = lambda: None
        store, usual = node.store, node.store._call

        async def call(name: str, work: Callable[[], T], fence: Fence | None = None) -> T:
            if fence is None:
                return await usual(name, work)
            store._call = usual  # type: ignore[method-assign]
            self.land = work
            fence.doubt()
            raise StoreUnavailable("Silent", "as the test wants it")

        store._call = call  # type: ignore[method-assign, assignment]


async def current(ledger: Ledger, upload: Upload) -> Upload:
    found = await ledger.get(upload.id)
    assert found is not None
    return found


async def send(node: Node, upload: Upload, data: bytes, end: int | None = None) -> Any:
    """A file from byte 0 on, as one range."""
    body = Body(data[:end], 7, drop=False, stall=False)
    return await node.uploads.receive(
        await current(node.deps.ledger, upload), body, Span(0, end or len(data)), revalidate=certain
    )


@pytest.mark.parametrize(
    ("size", "swarm", "elsewhere"),
    [
        (CHUNK, False, True),
        (CHUNK, True, True),
        (CHUNK, True, False),
        (2 * CHUNK, False, True),
        (2 * CHUNK, True, True),
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_comes_second_is_compared(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], size: int, swarm: bool, elsewhere: bool
) -> None:
    """Two bring other bytes for one upload: who is told that it is finished has its bytes in the object."""
    a, b = nodes[0], nodes[elsewhere]
    upload = await a.uploads.create(CreateRequest("put", KEY, length=size, swarm=swarm))
    # Nothing of it has come yet when the other does.
    body = Body(DATA[:size], size - 3, drop=False, stall=False)
    body.pauseProducing()
    former = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, size), revalidate=certain))
    former.addErrback(lambda failure: failure.value)
    while not any(writer.streams for writer in a.uploads.writing._writers.values()):
        await seconds(0.001)
    assert (await send(b, upload, OTHER[:size])).finished
    body.resumeProducing()
    assert isinstance(await former, UploadError)
    assert bucket.objects[KEY][0] == OTHER[:size]


@pytest_twisted.ensureDeferred
async def test_begun_again_while_a_call_may_come(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket, nodes: tuple[Node, Node]
) -> None:
    """A call is never answered; the client comes again with another file, and is told of it; then the call takes effect."""
    monkeypatch.setattr(claims, "LEASE", LEASE)
    monkeypatch.setattr(claims, "LOOK", 0.02)
    a, _ = nodes
    upload = await a.uploads.create(CreateRequest("put", KEY, length=5))
    late = Late(a)
    with pytest.raises(Unavailable):
        await send(a, upload, DATA[:5])
    again = Deferred.fromCoroutine(send(a, upload, OTHER[:5]))
    await seconds(LEASE / 4)
    late.land()
    assert (await again).finished
    assert bucket.objects[KEY][0] == OTHER[:5]


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest_twisted.ensureDeferred
async def test_begun_anew_before_it_is_finishing(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], elsewhere: bool
) -> None:
    """All parts are there, entered at the same time, so that none was the last; another file comes before the object is made."""
    a, b = nodes[0], nodes[elsewhere]
    upload = await a.uploads.create(CreateRequest("put", KEY, length=len(DATA)))
    count, entered, usual = 4, [0], ledger.add_piece
    all_of_them: Deferred[None] = Deferred()
    asked: Deferred[None] = Deferred()
    may: Deferred[None] = Deferred()

    async def together(*arguments: Any, **options: Any) -> Any:
        entered[0] += 1
        if entered[0] == count:
            all_of_them.callback(None)
        await all_of_them
        return await usual(*arguments, **options)

    async def revalidate() -> None:
        asked.callback(None)
        await may

    monkeypatch.setattr(ledger, "add_piece", together)
    body = Body(DATA, 7, drop=False, stall=False)
    former = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, len(DATA)), revalidate=revalidate))
    former.addErrback(lambda failure: failure.value)
    await asked
    assert (await send(b, upload, OTHER, 2 * CHUNK + 3)).offset == 2 * CHUNK + 3
    may.callback(None)
    assert isinstance(await former, UploadError)
    assert (await current(ledger, upload)).state is State.OPEN
    assert (await send(b, upload, OTHER)).finished
    assert bucket.objects[KEY][0] == OTHER


@pytest.mark.parametrize("when", ["before", "while"])
@pytest_twisted.ensureDeferred
async def test_begun_anew_before_one_request_makes_the_object(
    ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node], when: str
) -> None:
    """Another file comes, on another node, when all of an upload of one chunk is there. What is acknowledged of it stays."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", KEY, length=CHUNK))
    asked: Deferred[None] = Deferred()
    may: Deferred[None] = Deferred()
    put = a.store.put_object

    async def revalidate() -> None:
        if when == "before":
            asked.callback(None)
            await may

    async def put_object(*arguments: Any, **options: Any) -> Any:
        if when == "while":
            asked.callback(None)
            await may
        return await put(*arguments, **options)

    a.store.put_object = put_object  # type: ignore[method-assign]
    body = Body(DATA[:CHUNK], 7, drop=False, stall=False)
    former = Deferred.fromCoroutine(a.uploads.receive(upload, body, Span(0, CHUNK), revalidate=revalidate))
    former.addErrback(lambda failure: failure.value)
    await asked
    assert (await send(b, upload, OTHER[:CHUNK], 5)).offset == 5
    may.callback(None)
    assert isinstance(await former, Superseded)
    left = await current(ledger, upload)
    assert (left.state, left.claim) == (State.OPEN, None)
    assert KEY not in bucket.objects
    assert (await b.uploads.report(left)).offset == 5
    assert (await send(b, upload, OTHER[:CHUNK])).finished
    assert bucket.objects[KEY][0] == OTHER[:CHUNK]


@pytest_twisted.ensureDeferred
async def test_a_deletion_that_was_not_answered(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]
) -> None:
    """The next time nothing is found under the key: after a lease that is the end of it."""
    monkeypatch.setattr(claims, "LEASE", LEASE)
    monkeypatch.setattr(claims, "LOOK", 0.02)
    a, _ = nodes
    upload = await a.uploads.create(CreateRequest("put", KEY, length=5))
    late = Late(a)
    with pytest.raises(Unavailable):
        await send(a, upload, DATA[:5])
    late.land()
    await a.uploads.cancel(upload)
    a.store.trouble = [("delete_object", "after")]
    with pytest.raises(Unavailable):
        await a.uploads.tidy_up(await current(ledger, upload))
    assert KEY not in bucket.objects
    for _ in range(2):
        await a.uploads.tidy_up(await current(ledger, upload))
    assert (await current(ledger, upload)).claim is None


@pytest_twisted.ensureDeferred
async def test_a_swarm_over_two_processes(bucket: Bucket, nodes: tuple[Node, Node]) -> None:
    """A range is acknowledged here; there a connection, begun before, brings the whole chunk with other bytes."""
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", KEY, length=5, swarm=True))
    body = Body(DATA[:5], 7, drop=False, stall=False)
    body.pauseProducing()
    other = Deferred.fromCoroutine(b.uploads.receive(upload, body, Span(0, 5), revalidate=certain))
    other.addErrback(lambda failure: failure.value)
    while not any(writer.streams for writer in b.uploads.writing._writers.values()):
        await seconds(0.001)
    acknowledged = Body(OTHER[2:5], 7, drop=False, stall=False)
    await a.uploads.receive(upload, acknowledged, Span(2, 5), revalidate=certain)
    body.resumeProducing()
    assert isinstance(await other, Conflict)
    assert KEY not in bucket.objects


@pytest_twisted.ensureDeferred
async def test_what_could_not_be_settled(
    monkeypatch: pytest.MonkeyPatch, ledger: Ledger, bucket: Bucket, nodes: tuple[Node, Node]
) -> None:
    """Who takes the key over cannot look, and goes: what a cancelled upload has made there is removed by upkeep after all."""
    monkeypatch.setattr(claims, "LEASE", LEASE)
    monkeypatch.setattr(claims, "LOOK", 0.02)
    a, b = nodes
    upload = await a.uploads.create(CreateRequest("put", KEY, length=5))
    late = Late(a)
    with pytest.raises(Unavailable):
        await send(a, upload, DATA[:5])
    late.land()
    await a.uploads.cancel(upload)
    following = await b.uploads.create(CreateRequest("put", KEY, length=5))
    b.store.trouble = [("head_object", "before")]
    with pytest.raises(Unavailable):
        await send(b, following, OTHER[:5])
    await b.uploads.cancel(following)
    recovery = CompletionRecovery(b.uploads, Maintenance(ledger._database), reactor, give_up_after=60)  # type: ignore[arg-type]
    await recovery.round(idle=-1)
    assert KEY not in bucket.objects
