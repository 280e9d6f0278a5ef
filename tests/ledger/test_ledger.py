"""The ledger on each kind of database: what is committed, compare-and-set, and what cannot be opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from sqlalchemy import create_engine, text
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults

from resumable.ledger.claims import Holder
from resumable.ledger.database import Database
from resumable.ledger.engine import LedgerError
from resumable.ledger.ledger import Ledger, Taken
from resumable.model import LIVE, READ_BACK, Ended, Invalid, ObjectOptions, Piece, State, Unavailable, Upload

UPLOAD = Upload(
    id="u1",
    protocol="put",
    owner="alice",
    name="b/ig\u00e9.mp4",
    bucket="bucket",
    key="alice/b/ig\u00e9.mp4",
    length=(5 << 40) + 1,
    chunk_size=6 << 20,
    created=1000.25,
    updated=1000.25,
    options=ObjectOptions(content_type="video/mp4", metadata={"k": "v"}, tags={"a": "b"}),
)


@pytest_twisted.ensureDeferred
async def test_an_upload_comes_back_as_it_went_in(ledger: Ledger) -> None:
    await ledger.create(UPLOAD)
    assert await ledger.get("u1") == UPLOAD
    assert await ledger.get("u2") is None
    assert await ledger.find("alice", UPLOAD.name, "put") == UPLOAD
    assert await ledger.find("bob", UPLOAD.name, "put") is None


@pytest_twisted.ensureDeferred
async def test_one_live_upload_for_owner_and_name(ledger: Ledger) -> None:
    """A second live one is refused; once the first has ended, or for another owner or protocol, it is not."""
    await ledger.create(UPLOAD)
    with pytest.raises(Taken):
        await ledger.create(evolve(UPLOAD, id="u2"))
    await ledger.create(evolve(UPLOAD, id="u3", owner="bob"))
    await ledger.create(evolve(UPLOAD, id="u4", protocol="tus"))
    await ledger.create(evolve(UPLOAD, id="u5", protocol="tus"))
    assert await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE) is not None
    await ledger.create(evolve(UPLOAD, id="u2", created=2000.0))
    found = await ledger.find("alice", UPLOAD.name, "put")
    assert found is not None
    assert found.id == "u2"


@pytest_twisted.ensureDeferred
async def test_the_newest_that_was_not_given_up_is_found(ledger: Ledger) -> None:
    for number, state in enumerate([State.FINISHED, State.FAILED, State.CANCELLED, State.EXPIRED]):
        await ledger.create(evolve(UPLOAD, id=f"u{number}", created=1000.0 + number, state=state))
    found = await ledger.find("alice", UPLOAD.name, "put")
    assert found is not None
    assert found.state is State.FAILED


@pytest_twisted.ensureDeferred
async def test_the_state_moves_by_compare_and_set(ledger: Ledger) -> None:
    """Of many who try the same move one succeeds."""
    await ledger.create(UPLOAD)
    tries = [ensureDeferred(ledger.move(UPLOAD, State.FINISHING, frm=(State.OPEN,), updated=5.0 + n)) for n in range(8)]
    moved = [upload for upload in await gatherResults(tries) if upload is not None]
    assert len(moved) == 1
    assert await ledger.get("u1") == moved[0]
    assert moved[0].state is State.FINISHING


@pytest_twisted.ensureDeferred
async def test_what_is_set_once_stays(ledger: Ledger) -> None:
    await ledger.create(evolve(UPLOAD, length=None))
    first = await ledger.set_once(UPLOAD, multipart_id="one")
    second = await ledger.set_once(UPLOAD, multipart_id="two")
    assert first.multipart_id == second.multipart_id == "one"
    assert (await ledger.set_once(UPLOAD, length=7)).length == 7
    await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE)
    with pytest.raises(Ended):
        await ledger.set_once(UPLOAD, multipart_id="three")


@pytest_twisted.ensureDeferred
async def test_pieces(ledger: Ledger) -> None:
    """Pieces come in any order; one of the same range replaces the former; an ended upload takes none."""
    await ledger.create(UPLOAD)
    size = UPLOAD.chunk_size
    second, first = Piece(size, 2 * size, 2, "e2", 0xFFFFFFFF), Piece(0, size, 1, "e1")
    fragment = Piece(2 * size, 2 * size + 5, None, "f")
    for piece in (second, fragment, first, evolve(first, etag="e1b", crc32c=0)):
        await ledger.add_piece(UPLOAD, piece, now=2000.0)
    assert await ledger.pieces("u1") == [evolve(first, etag="e1b", crc32c=0), second, fragment]
    touched = await ledger.get("u1")
    assert touched is not None
    assert touched.updated == 2000.0
    await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE)
    with pytest.raises(Ended):
        await ledger.add_piece(UPLOAD, Piece(3 * size, 4 * size, 4, "e4"), now=3.0)
    assert len(await ledger.pieces("u1")) == 3


@pytest_twisted.ensureDeferred
async def test_a_part_with_the_range_of_the_fragment_it_replaces(ledger: Ledger) -> None:
    """A fragment may be a whole chunk, stored before the length was known: striking it out must not strike out the part."""
    await ledger.create(UPLOAD)
    fragment, part = Piece(0, 10, None, "f"), Piece(0, 10, 1, "etag")
    await ledger.add_piece(UPLOAD, fragment, now=1.0)
    await ledger.add_piece(UPLOAD, part, now=2.0, replaces=[fragment])
    assert await ledger.pieces("u1") == [part]


@pytest_twisted.ensureDeferred
async def test_the_newest_with_its_pieces(ledger: Ledger) -> None:
    """Of a finished one none: there may be ten thousand, and nobody asks."""
    await ledger.create(UPLOAD)
    stored = [Piece(0, 10, 1, "a"), Piece(10, 15, None, "b")]
    for piece in reversed(stored):
        await ledger.add_piece(UPLOAD, piece, now=1.0)
    found = await ledger.newest("alice", UPLOAD.name, "put")
    assert found is not None
    assert (found[0].id, found[1]) == ("u1", stored)
    assert await ledger.newest("bob", UPLOAD.name, "put") is None
    finished = await ledger.move(UPLOAD, State.FINISHED, frm=[State.OPEN])
    assert await ledger.newest("alice", UPLOAD.name, "put") == (finished, [])


@pytest_twisted.ensureDeferred
async def test_many_at_once(ledger: Ledger) -> None:
    """Writers on several threads wait for each other; nothing is refused as locked and nothing lost."""
    await ledger.create(UPLOAD)
    new = [Piece(n * 10, n * 10 + 10, n + 1, "e") for n in range(60)]
    await gatherResults([ensureDeferred(ledger.add_piece(UPLOAD, piece, now=1.0)) for piece in new])
    assert [piece.number for piece in await ledger.pieces("u1")] == list(range(1, 61))


def test_a_newer_ledger_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    Database(url, reactor).prepare()
    Database(url, reactor).prepare()
    with create_engine(url).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="newer resumable"):
        Database(url, reactor).prepare()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("not a url", "cannot be opened"),
        ("oracle9://u:hunter2@h/x", "cannot be opened"),
        ("sqlite:////no/such/directory/x.sqlite3", "unable to open"),
    ],
)
def test_what_cannot_be_opened(url: str, said: str) -> None:
    with pytest.raises(LedgerError, match=said) as caught:
        Database(url, reactor).prepare()
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_bytes(b"this is not SQLite" * 100)
    with pytest.raises(LedgerError, match="not a database"):
        Database(f"sqlite:///{tmp_path}/x.sqlite3", reactor).prepare()


@pytest_twisted.ensureDeferred
async def test_trouble_is_told_as_such(tmp_path: Path) -> None:
    """A ledger that loses its tables under way answers with Unavailable, which clients are told as 503."""
    url = f"sqlite:///{tmp_path}/ledger.sqlite3"
    database = Database(url, reactor)
    database.prepare()
    database.start()
    with create_engine(url).begin() as connection:
        connection.execute(text("DROP TABLE pieces"))
    with pytest.raises(Unavailable):
        await Ledger(database).pieces("u1")
    await database.close()


@pytest_twisted.ensureDeferred
async def test_a_part_stays_a_part(ledger: Ledger) -> None:
    """Two nodes have the same range, one of them as a fragment, which the other has joined and deleted meanwhile."""
    await ledger.create(UPLOAD)
    part = Piece(0, 5, 1, "part")
    await ledger.add_piece(UPLOAD, part, now=2.0)
    await ledger.add_piece(UPLOAD, Piece(0, 5, None, "fragment"), now=3.0)
    assert await ledger.pieces("u1") == [part]
    await ledger.add_piece(UPLOAD, evolve(part, etag="again"), now=4.0)
    assert await ledger.pieces("u1") == [evolve(part, etag="again")]


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("remembered", [{}, {"upload-metadata": '\u00fc "1"'}])
async def test_what_was_said_of_the_object_meanwhile(ledger: Ledger, remembered: dict[str, str]) -> None:
    """It is not finished as one of which less was said."""
    upload = await ledger.create(evolve(UPLOAD, remembered=remembered))
    said = await ledger.set_once(upload, expected_crc32c=0)
    assert await ledger.move(upload, State.FINISHED, frm=LIVE, said=upload) is None
    more = await ledger.remember(said, READ_BACK, "sha-256=AA==")
    assert await ledger.move(upload, State.FINISHED, frm=LIVE, said=said) is None
    assert await ledger.move(upload, State.FINISHED, frm=LIVE, said=evolve(more, expected_crc32c=None)) is None
    assert await ledger.move(upload, State.FINISHED, frm=LIVE, said=more) == evolve(more, state=State.FINISHED)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("remembered", [{}, {"upload-metadata": "a"}])
async def test_nothing_was_said_of_the_object_meanwhile(ledger: Ledger, remembered: dict[str, str]) -> None:
    upload = await ledger.create(evolve(UPLOAD, remembered=remembered))
    assert await ledger.move(upload, State.FINISHED, frm=LIVE, said=upload) == evolve(upload, state=State.FINISHED)


@pytest_twisted.ensureDeferred
async def test_of_many_who_claim_a_key_one_has_it(ledger: Ledger) -> None:
    """For one upload, and for several of the same key; those who are too late learn who has it."""
    others = [evolve(UPLOAD, id=f"t{number}", protocol="tus") for number in range(4)]
    for upload in (UPLOAD, *others):
        await ledger.create(upload)
    for round_ in range(5):
        wanting = [UPLOAD, UPLOAD, UPLOAD, *others]
        tries = [ensureDeferred(ledger.claim(one, f"{round_} {n}", states=LIVE)) for n, one in enumerate(wanting)]
        outcomes = await gatherResults(tries, consumeErrors=True)
        (had,) = [one for one in outcomes if isinstance(one, Upload)]
        number = outcomes.index(had)
        holder = Holder(wanting[number].id, f"{round_} {number}")
        assert had == evolve(wanting[number], claim=holder.claim)
        assert await ledger.claim(UPLOAD, "too late", states=LIVE) == holder
        assert await ledger.renew_claim(wanting[number], holder.claim, holder.claim) is State.OPEN
        await ledger.unclaim(wanting[number], holder.claim)
    await ledger.move(UPLOAD, State.CANCELLED, frm=LIVE)
    with pytest.raises(Ended):
        await ledger.claim(UPLOAD, "never", states=LIVE)


@pytest_twisted.ensureDeferred
async def test_many_of_one_name_at_once(ledger: Ledger) -> None:
    """Each is entered, after the one before it; a name that looks like a database's complaint is a name."""
    name = 'generation "uploads_in_order" uploads.bucket'
    many = [evolve(UPLOAD, id=f"m{n}", protocol="session", name=name, key=f"k{n}") for n in range(24)]
    await gatherResults([ensureDeferred(ledger.create(one)) for one in many], consumeErrors=True)
    await ledger.create(evolve(UPLOAD, id="put", name=name))
    with pytest.raises(Taken):
        await ledger.create(evolve(UPLOAD, id="again", name=name))


@pytest_twisted.ensureDeferred
async def test_a_length_that_is_only_announced(ledger: Ledger) -> None:
    """The first that is said stays; the upload has no length for it, until that is declared, and has none again when held."""
    upload = await ledger.create(evolve(UPLOAD, length=None, remembered={"k": "v"}))
    assert upload.announced is None
    announced = await ledger.announce(upload, 10)
    assert (announced.length, announced.announced, announced.remembered["k"]) == (None, 10, "v")
    assert await ledger.announce(upload, 11) == announced == await ledger.get("u1")
    declared = await ledger.declare(upload, 10)
    assert (declared.length, declared.announced) == (10, 10)
    assert await ledger.hold(upload) == announced == await ledger.get("u1")
    assert await ledger.hold(upload) == announced


@pytest_twisted.ensureDeferred
async def test_a_length_that_is_announced_too_late(ledger: Ledger) -> None:
    """Not below what is stored; not of an upload that has ended; and one whose last byte is stored is not held back."""
    upload = await ledger.create(evolve(UPLOAD, length=None))
    await ledger.add_piece(upload, Piece(0, 10, None, "e"), now=1.0)
    with pytest.raises(Invalid):
        await ledger.announce(upload, 9)
    assert await ledger.get("u1") == evolve(upload, updated=1.0)
    declared = await ledger.declare(upload, 10)
    await ledger.add_piece(declared, Piece(0, 10, 1, "e"), now=2.0, claim="c")
    held = await ledger.hold(declared)
    assert (held.state, held.length) == (State.FINISHING, 10)
    await ledger.move(upload, State.CANCELLED, frm=LIVE)
    for change in (ledger.hold(upload), ledger.announce(upload, 10)):
        with pytest.raises(Ended):
            await change
