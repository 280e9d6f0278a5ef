"""Processes, clients and a store that race for one key, and a record of what was said and done that tells right from wrong.

Everything runs in one reactor, so all events have an order: the record counts them. An object is known by the upload that
has made it (its token is in the object's metadata) and by its bytes.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from attrs import define, field
from sqlalchemy import select, update
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import AllowAll
from resumable.ledger.database import Database
from resumable.ledger.ledger import Ledger
from resumable.ledger.maintenance import Maintenance
from resumable.ledger.notifier import NullNotifier, PostgresNotifier
from resumable.ledger.rows import as_upload
from resumable.ledger.schema import uploads
from resumable.model import Piece, Unavailable, Upload, UploadError
from resumable.protocols.access import Gate
from resumable.protocols.base import Target
from resumable.protocols.content_range import ContentRange
from resumable.protocols.origin import Origin
from resumable.protocols.problems import status_of
from resumable.protocols.put import PutProtocol
from resumable.protocols.ranges import Ranges
from resumable.protocols.response import Response
from resumable.protocols.results import Results
from resumable.stores.port import Fence, StoreError, StoreUnavailable
from resumable.tasks import BackgroundTasks
from resumable.upkeep.recovery import CompletionRecovery
from resumable.uploads.dependencies import Dependencies
from resumable.uploads.digest import BodyDigest
from resumable.uploads.fragments import Fragments
from resumable.uploads.limiter import ReadBackLimiter
from resumable.uploads.memory import MemoryBudget
from resumable.uploads.policy import TOKEN, CreateRequest
from resumable.uploads.registry import Body as AnyBody
from resumable.uploads.registry import Span
from resumable.uploads.result import Report
from resumable.uploads.sender import Revalidate
from resumable.uploads.service import UploadService
from tests.policy import policy
from tests.uploads.memory_store import Bucket, MemoryStore
from tests.uploads.test_states import Body

T = TypeVar("T")
CHUNK = 16
KEY = "name"
NAMED = Target(name=KEY.encode())
#: Bytes from one mark to the next; what lies between a range's end and the next mark inside it is not compared.
EVERY = 4


async def seconds(some: float) -> None:
    await deferLater(reactor, some)  # type: ignore[arg-type]


@define(eq=False)
class Sent:
    """One request with a body, and what came of it.

    :ivar data: the client's file, all of it.
    :ivar first: the range that the request says it brings: ``[first, end)``.
    :ivar begun: when it was sent, as the record counts.
    :ivar upload_id: to which upload its bytes went.
    :ivar answered: when it was answered; None while it is not, and for ever if its process has died.
    """

    process: Process
    data: bytes
    first: int
    end: int
    body: Body
    begun: int
    upload_id: str | None = None
    answered: int | None = None
    status: int | None = None
    error: BaseException | None = None
    swarm: bool = False
    method: bytes = b"PUT"
    uri: bytes = b"/upload/name"
    path: bytes = b"/upload/name"
    length: int | None = None
    requestHeaders: Headers = field(factory=Headers)
    origin: Origin = field(factory=lambda: Origin(client="127.0.0.1", base="http://127.0.0.1"))

    async def pour_into(self, consumer: IConsumer) -> None:
        await self.body.pour_into(consumer)

    def __repr__(self) -> str:
        what = f"{self.first}-{self.end}/{len(self.data)} of {self.data[:4].hex()}"
        return f"<{self.begun}..{self.answered} {what} to {self.upload_id}: {self.status} {self.error!r}>"


@define
class Event:
    """An object came to stand under the key (or, without bytes, went), by a call that had begun at some time."""

    token: str
    data: bytes | None
    begun: int
    at: int


@define(eq=False)
class Record:
    """What was said and done, in its order.

    :ivar events: what happened under the key.
    :ivar acks: by upload: ranges that somebody was told are stored, and of which file; since it was last begun at byte 0.
    :ivar floors: by upload: the highest offset that somebody was told, since then.
    :ivar beginners: by upload: requests under way that have begun at byte 0. Until they end they may change what others are
        told meanwhile: that is neither in `acks` nor in `floors`.
    :ivar wrong: what must not have happened.
    """

    at: int = 0
    events: list[Event] = field(factory=list)
    sent: list[Sent] = field(factory=list)
    acks: dict[str, list[Sent]] = field(factory=dict)
    floors: dict[str, int] = field(factory=dict)
    tokens: dict[str, str] = field(factory=dict)
    wrong: list[str] = field(factory=list)
    anews: int = 0
    beginners: defaultdict[str, list[AnyBody]] = field(factory=lambda: defaultdict(list))

    def tick(self) -> int:
        self.at += 1
        return self.at

    def begins(self, upload_id: str, body: AnyBody) -> None:
        """Whoever begins at byte 0 may change everything that others were told."""
        self.beginners[upload_id].append(body)
        self._anew(upload_id)

    def begun(self, upload_id: str, body: AnyBody) -> None:
        """Who has begun there changes nothing more: the request, or its process, is at its end."""
        if body in self.beginners[upload_id]:
            self.beginners[upload_id].remove(body)
        self._anew(upload_id)

    def _anew(self, upload_id: str) -> None:
        self.anews += 1
        self.acks.pop(upload_id, None)
        self.floors.pop(upload_id, None)

    def told(self, upload_id: str, offset: int) -> None:
        """Somebody was told this offset, below which the upload does not fall any more."""
        if not self.beginners[upload_id]:
            self.floors[upload_id] = max(offset, self.floors.get(upload_id, 0))

    # Under the key

    def came(self, token: str, data: bytes, begun: int) -> None:
        """An object was made. No other may have been made since the call that does it began."""
        now = Event(token, data, begun, self.tick())
        for other in self.events:
            if other.at > begun and (other.token, other.data) != (token, data) and other.data is not None:
                self.wrong.append(f"a call that began at {begun} has replaced what was made since: {other} by {now}")
        self.events.append(now)

    def went(self, token: str, begun: int) -> None:
        """An object was removed: nobody may have been told of it."""
        self.events.append(Event(token, None, begun, self.tick()))
        for sent in self.sent:
            if sent.status == 200 and self.token_of(sent) == token:
                self.wrong.append(f"the object of {sent} was deleted at {self.at}")

    def token_of(self, sent: Sent) -> str:
        return self.tokens.get(sent.upload_id or "", "?")

    def made(self, token: str) -> bytes | None:
        """The bytes of an upload's object, as it was made last."""
        return next(
            (event.data for event in reversed(self.events) if event.token == token and event.data is not None), None
        )

    # What clients are told

    def stored(self, sent: Sent, told: int | None) -> None:
        """All that a request has brought is acknowledged, and perhaps more."""
        assert sent.upload_id is not None
        acks = self.acks.setdefault(sent.upload_id, [])
        for other in acks:
            at = differs(sent, other.data, other)
            if at is not None:
                self.wrong.append(f"byte {at} was acknowledged to two who differ: {other} and {sent}")
        if not self.beginners[sent.upload_id]:
            acks.append(sent)
        if told is not None:
            self.told(sent.upload_id, told)

    def finished(self, sent: Sent, upload_id: str) -> None:
        """A client was told that its upload is finished: the object is what it sent, wherever it is now."""
        sent.upload_id = upload_id
        made = self.made(self.token_of(sent))
        if made is None:
            self.wrong.append(f"told of an object that was never made: {sent}")
            return
        for one in [sent, *self.acks.get(upload_id, ())]:
            if len(made) != len(one.data):
                self.wrong.append(f"{len(made)} bytes were made of {one}")
            # (Of two clients of a swarm who bring other bytes on two processes at the very same time both may be told.)
            elif (at := differs(one, made)) is not None and not (one.swarm and one.process is not sent.process):
                self.wrong.append(f"byte {at} is not what was sent by {one}: told {sent}")

    def standing(self) -> list[Sent]:
        """The requests that were answered with 200 and after which no other was sent that was, too."""
        told = [sent for sent in self.sent if sent.status == 200]
        return [
            one for one in told if not any(one.answered is not None and one.answered < other.begun for other in told)
        ]


def differs(sent: Sent, data: bytes, other: Sent | None = None) -> int | None:
    """Where, if anywhere, a request's bytes are others than these, as far as the service has to see that."""

    def seen(one: Sent) -> set[int]:
        # What lies between two marks.
        return set(
            range(-(-one.first // EVERY) * EVERY, one.end if one.end == len(one.data) else one.end // EVERY * EVERY)
        )

    if other is not None and len(other.data) != len(sent.data):
        return None
    both = seen(sent) if other is None else seen(sent) & seen(other)
    return next((at for at in sorted(both) if sent.data[at] != data[at]), None)


class Grave:
    """What a dead process has under way: it does not go on, until the test is over and all of it is unwound."""

    def __init__(self) -> None:
        self._hung: list[Deferred[None]] = []
        self._over = False

    async def rest(self, *_: object) -> Any:
        if not self._over:
            hung: Deferred[None] = Deferred()
            self._hung.append(hung)
            await hung
        raise Unavailable("the process has died")

    def unwind(self) -> None:
        self._over = True
        for hung in self._hung:
            hung.callback(None)


class RacingStore(MemoryStore):
    """One process's connection to the bucket, which records what is made and removed under the key.

    :ivar next: what happens to the next call that makes or removes an object there: a name, and seconds.
    :ivar on_death: called when the process is to die in the middle of one.
    """

    def __init__(self, bucket: Bucket, record: Record) -> None:
        super().__init__(bucket)
        self._record = record
        self.next: tuple[str, float] | None = None
        self.on_death: Callable[[], None] = lambda: None
        self.grave = Grave()

    async def _call(self, name: str, work: Callable[[], T], fence: Fence | None = None) -> T:
        if self.dead:
            await self.grave.rest()
        if fence is None:
            return await super()._call(name, work)
        begun = self._record.tick()
        what, some = self.next or ("", 0.0)
        self.next = None
        if what == "busy":
            await fence.pause(some)
            await fence.proceed()
            begun = self._record.tick()
        elif what == "slow":
            await seconds(some)
        elif what in ("late", "dies"):
            # It takes effect all the same, in a while, and nobody hears of it.
            reactor.callLater(some, self._land, work, begun)  # type: ignore[attr-defined]
            if what == "dies":
                self.on_death()
                await self.grave.rest()
            fence.doubt()
            raise StoreUnavailable("Silent", "as the test wants it")
        done = await super()._call(name, lambda: self._watched(work, begun), fence)
        if what == "slow answer":
            await seconds(some)
        return done

    def _watched(self, work: Callable[[], T], begun: int) -> T:
        """Do it, and record what has come of it under the key."""
        before = self._bucket.objects.get(KEY)
        done = work()
        after = self._bucket.objects.get(KEY)
        if after is not None and after is not before:
            self._record.came(after[1][TOKEN], after[0], begun)
        elif after is None and before is not None:
            self._record.went(before[1][TOKEN], begun)
        return done

    def _land(self, work: Callable[[], object], begun: int) -> None:
        with suppress(StoreError):
            self._watched(work, begun)


class WatchedService(UploadService):
    """Tells the record to which upload a body goes."""

    record: Record

    async def receive(
        self,
        upload: Upload,
        body: AnyBody,
        span: Span,
        *,
        revalidate: Revalidate,
        new: bool = False,
        **options: Any,
    ) -> Report:
        self._note(upload, body)
        anew = span.first == 0 and not upload.swarm
        if anew:
            self.record.begins(upload.id, body)
        try:
            return await super().receive(upload, body, span, revalidate=revalidate, new=new, **options)
        finally:
            if anew:
                self.record.begun(upload.id, body)

    async def compare(self, upload: Upload, body: AnyBody, span: Span, digest: BodyDigest | None = None) -> Report:
        self._note(upload, body)
        return await super().compare(upload, body, span, digest)

    def _note(self, upload: Upload, body: AnyBody) -> None:
        self.record.tokens[upload.id] = upload.token
        if isinstance(body, Sent):
            body.upload_id, body.swarm = upload.id, upload.swarm


class Process:
    """A process, as far as it knows: an upload service, a store, and its own connections to the ledger that all share."""

    def __init__(self, url: str, bucket: Bucket, record: Record, *, nodes: bool) -> None:
        self.record = record
        self.database = Database(url, reactor, threads=2)
        self.database.prepare()
        self.database.start()
        self.ledger = Ledger(self.database)
        self.store = RacingStore(bucket, record)
        self.store.on_death = self.die
        self.peers: NullNotifier | PostgresNotifier = (
            PostgresNotifier(self.database, reactor, wait=0.5) if nodes else NullNotifier()
        )
        if isinstance(self.peers, PostgresNotifier):
            self.peers.start()
        budget = MemoryBudget(4096, reactor)  # type: ignore[arg-type]
        self.deps = Dependencies(
            ledger=self.ledger,
            store=self.store,
            fragments=Fragments(self.store, budget, ".resumable/", "ledger"),
            budget=budget,
            read_back=ReadBackLimiter(CHUNK),
            clock=reactor,  # type: ignore[arg-type]
            background=BackgroundTasks(4),
            peers=self.peers,
        )
        self.uploads = WatchedService(self.deps, policy("bucket", chunk_size=CHUNK, limits=self.store.limits))
        self.uploads.record = record
        self.recovery = CompletionRecovery(self.uploads, Maintenance(self.database), reactor, give_up_after=60)  # type: ignore[arg-type]
        self._gate = Gate(self.uploads, AllowAll(), "session")
        self._ranges = Ranges(Results())
        self._put = PutProtocol(Gate(self.uploads, AllowAll(), "put"), Results())
        self.dead = False

    def die(self) -> None:
        """From here on nothing of it goes on, whatever is under way: no call returns, and no sign of life is given."""

        self.dead = self.store.dead = True
        self.database.write = self.database.read = self.store.grave.rest  # type: ignore[method-assign, assignment]
        if isinstance(self.peers, PostgresNotifier):
            self.peers.stop()
        for held in self.uploads._completer.claims._held.values():
            for claim in held:
                if claim._timer is not None and claim._timer.active():
                    claim._timer.cancel()

    async def serve(self, sent: Sent, session: str | None = None) -> None:
        """Serve a request, and note what its client is told."""
        try:
            response = await (self._put.handle(sent, NAMED) if session is None else self._session(sent, session))
            status, told = response.status, told_offset(response)
            finished = json.loads(response.body)["id"] if status == 200 else None  # type: ignore[arg-type]
        except UploadError as error:
            status, told, finished = status_of(error), None, None
            sent.error = error
        if self.dead:
            return
        sent.answered, sent.status = self.record.tick(), status
        if finished is not None:
            self.record.finished(sent, finished)
        elif status == 308:
            self.record.stored(sent, told)

    async def _session(self, sent: Sent, upload_id: str) -> Response:
        """A range of an upload that is known by its id, as `resumable.protocols.session` takes it."""
        access = await self._gate.authorize(sent, "append", upload_id=upload_id, length=len(sent.data))
        brought = ContentRange(sent.first, sent.end, len(sent.data))
        return await self._ranges.put(access, sent, await access.get(upload_id), brought)

    async def create_session(self, length: int, *, swarm: bool) -> Upload:
        upload = await self.uploads.create(CreateRequest("session", KEY, length=length, swarm=swarm))
        self.record.tokens[upload.id] = upload.token
        return upload

    async def delete(self) -> int:
        """``DELETE`` of the name: cancel, or forget what is finished."""
        request = Sent(self, b"", 0, 0, Body(b"", 1, drop=False, stall=False), self.record.tick(), method=b"DELETE")
        try:
            return (await self._put.handle(request, NAMED)).status
        except UploadError as error:
            return status_of(error)

    async def look(self, session: str | None = None) -> Report | None:
        """How far is it? Once told, it stays so."""
        anews = self.record.anews
        try:
            if session is None:
                report = await self.uploads.look("", KEY, "put")
            else:
                report = await self.uploads.report(await self.uploads.get(session, ""))
        except UploadError:
            return None
        if not self.dead and anews == self.record.anews and (report.upload.live or report.finished):
            self.record.told(report.upload.id, report.offset)
        return report

    async def all_uploads(self) -> list[Upload]:
        rows = await self.database.read(lambda connection: connection.execute(select(uploads)).mappings().all())
        return [as_upload(row) for row in rows]

    async def all_pieces(self) -> dict[str, list[Piece]]:
        return {upload.id: await self.ledger.pieces(upload.id) for upload in await self.all_uploads()}

    async def all_due(self) -> None:
        """What upkeep has put off is to be done now."""
        await self.database.write(lambda connection: connection.execute(update(uploads).values(due=None)) and None)


def told_offset(response: Response) -> int | None:
    """The offset that a 308 tells, where it tells one stored range from byte 0 on."""
    for name, value in response.headers:
        if name == "Range" and isinstance(value, str) and value.startswith("bytes=0-"):
            return int(value.removeprefix("bytes=0-").partition(",")[0]) + 1
    return None
