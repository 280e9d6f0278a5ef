"""All protocols at once, against one model: clients begin in one, vanish, come back in another, cancel and repeat themselves.

A state machine of Hypothesis over the whole service in memory, on chunks of 16 bytes, with a store and a ledger that are in
trouble now and then. Always true: what somebody was told is stored stays stored; an object is byte for byte its file or there
is none; one that somebody was told of stays; a look changes nothing; nobody hears a 500.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

import pytest
from attrs import define, evolve
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from pytest_twisted import ensureDeferred
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread

from resumable.model import Unavailable
from resumable.protocols.access import ELSEWHERE
from tests.protocols.harness import Answer, Memory, memory_service, until
from tests.protocols.speaking import VIEWS, Asked, Bytes, File, Told, ask, begin, begun_id, bring, cancel, read_answer
from tests.stateful import every_time, short_claims
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.web.wire import Wire

T = TypeVar("T")
#: Answers by which a client knows that it is to come again.
LATER = (423, 503)
#: What may be answered where something else is in the way, besides: another connection, what the upload is by now.
NO = (400, 403, 404, 409, 410, 416)
#: How often an upload is tried to be finished in the end, when nothing is in trouble any more.
TRIES = 8
#: Uploads that go on at a time.
MOST = 3
#: The calls to the store that go wrong; those that make the object more often.
CALLS_MADE = (
    *("put_object", "upload_part", "init_multipart_upload", "get_object", "head_object"),
    *("complete_multipart_upload", "complete_multipart_upload", "put_object", "delete_objects"),
)


def run(doing: Coroutine[Any, Any, T]) -> T:
    """Have the reactor's thread do it, soon: Hypothesis has a thread of its own."""

    def start() -> Deferred[T]:
        return Deferred.fromCoroutine(doing).addTimeout(20, reactor)  # type: ignore[arg-type]

    return cast(T, blockingCallFromThread(reactor, start))  # type: ignore[arg-type]


@define
class Known:
    """What is known of an upload.

    :ivar acknowledged: bytes from the start that somebody was told are stored.
    :ivar sent: bytes from the start that somebody has sent.
    :ivar finished: whether somebody was told so.
    :ivar ended: whether somebody has asked for its end.
    :ivar last: the request that was sent last to it: with the view, and the range that it brought.
    """

    file: File
    acknowledged: int = 0
    sent: int = 0
    finished: bool = False
    ended: bool = False
    last: tuple[str, Asked, Bytes | None] | None = None
    #: Whether a request to it was met by trouble, or may be under way on a connection that somebody has given up.
    disturbed: bool = False

    @property
    def swarm(self) -> bool:
        return self.file.begun == "session"

    def open_in(self, view: str) -> bool:
        """Whether it may be gone on with there."""
        if view == "put" or self.file.begun == view:
            return self.file.begun == view
        return self.file.begun in ELSEWHERE and not (self.swarm and view in ("tus", "ietf"))

    def shown_in(self, view: str) -> bool:
        """Whether it can be looked at there."""
        return view != "put" or self.file.begun == "put"


class Trouble:
    """A ledger that fails when told to be: before the work, or after it, so that only the answer is lost."""

    def __init__(self, service: Memory) -> None:
        self.coming: list[str] = []
        self.met = 0
        database = service.parts.ledger._database
        self._write: Callable[..., Awaitable[Any]] = database.write
        database.write = self

    async def __call__(self, work: Any, **how: Any) -> Any:
        when = self.coming.pop(0) if self.coming else ""
        self.met += bool(when)
        if when == "before":
            raise Unavailable("the ledger did not answer", part="ledger")
        done = await self._write(work, **how)
        if when == "after":
            raise Unavailable("the ledger did not answer", part="ledger")
        return done


class Protocols(RuleBasedStateMachine):
    """A few uploads. A rule that does not fit does nothing: what is drawn must not depend on how far threads have come."""

    def __init__(self) -> None:
        super().__init__()
        self._uploads: list[Known] = []
        self._old: list[Wire] = []
        self._count = self._steps = 0
        self.bucket = Bucket()
        self.store = MemoryStore(self.bucket)
        self._context = memory_service(store=self.store)
        self.service = run(self._context.__aenter__())
        self.ledger = Trouble(self.service)

    @rule(seed=st.integers(0, 2**32 - 1))
    def step(self, seed: int) -> None:
        """One step of one upload. The step's number is part of the seed: Hypothesis likes to draw the same again."""
        self._steps += 1
        chance = random.Random(seed * 1000 + self._steps)
        going_on = [upload for upload in self._uploads if not (upload.finished or upload.ended)]
        if len(going_on) < MOST and (not going_on or chance.random() < 0.1):
            run(self._begin(chance.choice(VIEWS), chance.randint(1, 80), chance.random() < 0.7))
            return
        upload = chance.choice(going_on if going_on and chance.random() < 0.85 else self._uploads or [None])
        if upload is None:
            return
        action = chance.choice(ACTIONS)
        view = chance.choice([view for view in VIEWS if upload.shown_in(view)])
        if action in (Protocols._append, Protocols._drop) and chance.random() < 0.9 and not upload.open_in(view):
            view = chance.choice([view for view in VIEWS if upload.open_in(view)])
        run(action(self, upload, view, chance))

    async def _begin(self, protocol: str, length: int, known: bool) -> None:
        self._count += 1
        data = random.Random(self._count * 100 + length).randbytes(length)
        file = File(protocol, f"f{self._count}", data, length if known or protocol == "session" else None)
        upload = Known(file, last=None)
        first = Bytes(0, 1, last=length == 1) if protocol == "put" else None
        answer = await self._say(upload, protocol, begin(file), first)
        if answer.status in LATER and upload.disturbed:
            return
        assert answer.status in (200, 201, 308), answer
        if first is not None:
            upload.file = evolve(file, id=await self._id_of_put(file))
            self._learn(upload, protocol, first, answer)
        else:
            upload.file = evolve(file, id=begun_id(protocol, answer))
        self._uploads.append(upload)

    async def _id_of_put(self, file: File) -> str:
        for _ in range(3):
            answer = await self.service.ask("GET", f"/upload/{file.name}")
            if answer.status == 200:
                upload_id: str = answer.json["id"]
                return upload_id
        return ""

    # One request

    async def _say(self, upload: Known, view: str, asked: Asked, what: Bytes | None) -> Answer:
        """Send a request, and note whether it was met by trouble."""
        troubles, met = len(self.store.trouble), self.ledger.met
        if what is not None:
            upload.sent = max(upload.sent, what.end)
        method, target, lines, body = asked
        answer = await self.service.ask(method, target, lines, body if body or method != "HEAD" else None)
        assert answer.status != 500, (asked, answer)
        if len(self.store.trouble) != troubles or self.ledger.met != met:
            upload.disturbed = True
        return answer

    def _learn(self, upload: Known, view: str, what: Bytes | None, answer: Answer) -> Told:
        """Take an answer for what it tells, and see that it takes nothing back."""
        told = read_answer(view, upload.file, ("", "", [], b""), what, answer)
        assert told.offset is not None
        assert told.offset >= upload.acknowledged, (view, told, upload)
        assert told.offset <= upload.sent, (view, told, upload)
        upload.acknowledged = told.offset
        if told.finished:
            assert told.offset == len(upload.file.data), (view, told, upload)
            upload.finished = True
            self._check_object(upload)
        return told

    async def _look(self, upload: Known, view: str) -> int | None:
        """The offset that a view tells; None if it tells none, which has to have a reason."""
        answer = await self._say(upload, view, ask(view, upload.file), None)
        if answer.status in (200, 204, 308):
            return self._learn(upload, view, None, answer).offset
        assert upload.disturbed or upload.ended, (view, answer, upload)
        assert answer.status in (*LATER, *NO), answer
        return None

    async def _bring(self, upload: Known, view: str, what: Bytes) -> None:
        """Bring a range that begins where the view has just said."""
        asked = bring(view, upload.file, what)
        upload.last = (view, asked, what)
        answer = await self._say(upload, view, asked, what)
        if answer.status in (200, 204, 308):
            told = self._learn(upload, view, what, answer)
            assert told.offset is not None
            assert told.offset >= what.end
            if what.last:
                assert upload.finished, (view, answer, upload)
            upload.disturbed = bool(self._old)
            return
        assert answer.status in (*LATER, *NO), answer
        assert upload.disturbed or upload.ended or not upload.open_in(view), (view, what, answer, upload)

    # What a client does

    async def _append(self, upload: Known, view: str, chance: random.Random) -> None:
        """Ask, and go on from there: with a part, or with all of the rest."""
        offset = await self._look(upload, view)
        length = len(upload.file.data)
        if offset is None or offset == length:
            return
        end = min(length, offset + chance.choice([1, 5, 16, 30, 80]))
        await self._bring(upload, view, Bytes(offset, end, last=end == length))

    async def _drop(self, upload: Known, view: str, chance: random.Random) -> None:
        """Vanish in the middle of a body: for all to see, or so that the connection still looks alive."""
        size, how = chance.randint(2, 80), chance.choice(["gone", "gone at once", "silent"])
        offset = await self._look(upload, view)
        length = len(upload.file.data)
        if offset is None or length - offset < 2 or not upload.open_in(view):
            return
        end = min(length, offset + size)
        what = Bytes(offset, end, last=end == length)
        method, target, lines, body = bring(view, upload.file, what)
        upload.last = (view, (method, target, lines, body), what)
        cut = chance.randint(1, len(body) - 1)
        upload.sent = max(upload.sent, offset + cut)
        wire = self.service.connect()
        head = [f"{method} {target} HTTP/1.1", "Host: test", *lines, f"Content-Length: {len(body)}", "", ""]
        wire.send("\r\n".join(head).encode() + body[:cut])
        upload.disturbed = True
        await until(lambda: wire.said or self._written(upload, offset + cut))
        if how == "silent":
            self._old.append(wire)
            return
        wire.lose()
        if how == "gone":
            await until(lambda: not self._streams(upload) or self._old)
            upload.disturbed = bool(self._old)

    def _streams(self, upload: Known) -> list[Any]:
        writer = self.service.parts.uploads.writing._writers.get(upload.file.id)
        return [] if writer is None else writer.streams

    def _written(self, upload: Known, position: int) -> bool:
        return any(stream.position >= position for stream in self._streams(upload))

    async def _repeat(self, upload: Known, _: str, chance: random.Random) -> None:
        """Send the last request once more, as one does whose answer was lost."""
        if upload.last is None:
            return
        view, asked, what = upload.last
        if view == "put" and what is not None and what.first == 0:
            return  # this may begin another upload of the name: that is for other tests
        answer = await self._say(upload, view, asked, what)
        if answer.status in (200, 204, 308):
            # (Vimeo's clients are told nothing of the offset, and the request itself may be old.)
            if view != "vimeo":
                self._learn(upload, view, what, answer)
        else:
            assert answer.status in (*LATER, *NO, 408), answer

    async def _watch(self, upload: Known, view: str, chance: random.Random) -> None:
        """What is not complete is not changed by a look, whoever is writing it."""
        idle = not self._streams(upload) and not self.ledger.coming
        before = await self.service.parts.ledger.whole(upload.file.id) if idle else None
        await self._look(upload, view)
        if before is None or self._streams(upload) or self.ledger.coming:
            return
        stored = sum(piece.size for piece in before[1])
        if before[0].state.value == "open" and stored < len(upload.file.data):
            assert await self.service.parts.ledger.whole(upload.file.id) == before

    async def _cancel(self, upload: Known, view: str, chance: random.Random) -> None:
        """End it, wherever that is possible. What is finished stays an object."""
        asked = cancel(view, upload.file)
        if asked is None:
            return
        upload.ended = True
        answer = await self._say(upload, view, asked, None)
        assert answer.status in (200, 204, 499, *LATER, *NO), answer
        if answer.status in (200, 204, 499) and not upload.finished:
            looked = await self.service.ask("GET", f"/uploads/{upload.file.id}")
            assert looked.status in (200, 410, *LATER), looked
            if looked.status == 200:  # it was finished, and nobody has been told until now
                assert looked.json["state"] == "finished", looked
                self._check_object(upload)

    async def _trouble(self, upload: Known, view: str, chance: random.Random) -> None:
        """Something goes wrong soon, in the store or in the ledger: it does nothing, or its answer is lost."""
        when = chance.choice(["before", "after"])
        if chance.random() < 0.5:
            if not self.ledger.coming:
                self.ledger.coming = [*[""] * chance.randint(0, 12), when]
        elif len(self.store.trouble) < 2:
            self.store.trouble.append((chance.choice(CALLS_MADE), when))

    # What is always true

    def _object(self, upload: Known) -> bytes | None:
        found = self.bucket.objects.get(upload.file.name)
        return None if found is None else bytes(found[0])

    def _check_object(self, upload: Known) -> None:
        assert self._object(upload) == upload.file.data, upload

    @invariant()
    def objects_are_their_files(self) -> None:
        for upload in self._uploads:
            if upload.finished:
                self._check_object(upload)
            else:
                assert self._object(upload) in (None, upload.file.data), upload

    def teardown(self) -> None:
        try:
            run(self._end())
        finally:
            run(self._context.__aexit__(None, None, None))

    async def _end(self) -> None:
        """No more trouble: everything that nobody has ended can be finished, where it was begun."""
        self.store.trouble.clear()
        self.ledger.coming.clear()
        for wire in self._old:
            wire.lose()
        for upload in self._uploads:
            await until(lambda upload=upload: not self._streams(upload))  # type: ignore[misc]
            if not upload.file.id or upload.ended:
                continue
            view = "session" if upload.swarm else upload.file.begun
            for _ in range(TRIES):
                if upload.finished:
                    break
                upload.disturbed = True
                await self._finish(upload, view)
            assert upload.finished, (view, upload, await self.service.ask("GET", f"/uploads/{upload.file.id}"))
        self.objects_are_their_files()

    async def _finish(self, upload: Known, view: str) -> None:
        offset, length = await self._look(upload, view), len(upload.file.data)
        if offset is None or upload.finished:
            return
        if offset < length:
            await self._bring(upload, view, Bytes(offset, length, last=True))
            return
        # All is there, and somebody has yet to say that it is the end.
        asked: dict[str, Asked] = {
            "vimeo": ("DELETE", f"/vimeo/complete/{upload.file.id}", [], b""),
            "tus": bring(view, upload.file, Bytes(length, length, last=True)),
            "ietf": bring(view, upload.file, Bytes(length, length, last=True)),
            "goog-upload": ("POST", bring(view, upload.file, Bytes(0, 0, last=True))[1], [FINALIZE], b""),
        }
        ranges: Asked = ("PUT", ask(view, upload.file)[1], [f"Content-Range: bytes */{length}"], b"")
        answer = await self._say(upload, view, asked.get(view, ranges), None)
        assert answer.status in (200, 201, 204, *LATER), answer
        if answer.status not in LATER:
            upload.finished = True
            self._check_object(upload)


#: What a step may be, as often as it is among them.
ACTIONS = [
    *[Protocols._append] * 8,
    *[Protocols._drop] * 4,
    *[Protocols._watch] * 2,
    *[Protocols._repeat] * 2,
    *[Protocols._trouble] * 3,
    Protocols._cancel,
]
FINALIZE = "X-Goog-Upload-Command: finalize"


@pytest.mark.parametrize("examples", [12])
@ensureDeferred
async def test_whatever_the_protocol(monkeypatch: pytest.MonkeyPatch, examples: int) -> None:
    """Every example is some twenty steps, always the same ones."""
    # A call to the store of which nobody knows how it ended is waited for.
    short_claims(monkeypatch)
    how = every_time(examples, 50)
    await deferToThread(run_state_machine_as_test, Protocols, settings=how)
