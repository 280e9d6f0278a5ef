"""What operators read, on both databases, and the trial of a ledger."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from attrs import asdict
from sqlalchemy import func, insert, make_url, select, text

from resumable.ledger.engine import LedgerError, open_engine, prepare
from resumable.ledger.listing import Filter, Listing, try_out
from resumable.ledger.schema import metadata, pieces, uploads
from resumable.model import NotFound, Piece, State, Upload
from tests.databases import Postgres

UPLOADS = [
    Upload("Abc-1", "tus", "alice", "a", "b", "a", 100, 10, created=30.0, updated=60.0),
    Upload(
        "abc-2", "tus", "alice", "b", "b", "b", None, 10, created=30.0, updated=40.0, state=State.FAILED, reason="?"
    ),
    Upload("abd_3", "put", "bob", "c", "b", "c", 100, 10, created=10.0, updated=70.0, state=State.FINISHING),
]


@pytest.fixture
def listing(postgres_or_file: str) -> Iterator[Listing]:
    engine = open_engine(postgres_or_file)
    prepare(engine)
    with engine.begin() as connection:
        for upload in UPLOADS:
            connection.execute(insert(uploads).values({**asdict(upload), "state": upload.state.value}))
        for first in (10, 0):
            connection.execute(insert(pieces).values(upload_id="Abc-1", first=first, end=first + 10, etag="e"))
    engine.dispose()
    opened = Listing(postgres_or_file)
    yield opened
    opened.close()


def ids(found: list[Upload]) -> list[str]:
    return [upload.id for upload in found]


def test_filters_and_pages(listing: Listing) -> None:
    """The newest first; between those of one moment there is an order too."""
    everything = listing.uploads(Filter(), limit=10)
    assert sorted(everything, key=lambda upload: upload.id) == UPLOADS
    assert everything[2].id == "abd_3"
    pages, last = [], None
    for _ in UPLOADS:
        (last,) = listing.uploads(Filter(), limit=1, after=last)
        pages.append(last)
    assert pages == everything
    assert listing.uploads(Filter(), limit=1, after=last) == []
    assert ids(listing.uploads(Filter(states=[State.FAILED, State.FINISHING]), limit=9)) == ["abc-2", "abd_3"]
    assert ids(listing.uploads(Filter(owner="bob"), limit=9)) == ["abd_3"]
    assert ids(listing.uploads(Filter(untouched_since=40.0), limit=9)) == ["abc-2"]


def test_an_id_by_its_beginning(listing: Listing) -> None:
    """Capitals matter, and no character stands for another."""
    assert listing.upload("A").id == "Abc-1"
    assert listing.upload("abc") == UPLOADS[1]
    for wanted in ("ab", "abc_", "%", "", "abc-22"):
        with pytest.raises(NotFound):
            listing.upload(wanted)


def test_pieces(listing: Listing) -> None:
    found = listing.pieces(["Abc-1", "abc-2"])
    assert found == {"Abc-1": [Piece(0, 10, None, "e"), Piece(10, 20, None, "e")], "abc-2": []}


def test_a_trial_changes_nothing(listing: Listing, postgres_or_file: str) -> None:
    def counts() -> list[int]:
        engine = open_engine(postgres_or_file)
        with engine.connect() as connection:
            found = [
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in metadata.sorted_tables
            ]
        engine.dispose()
        return found

    before = counts()
    assert try_out(postgres_or_file) == try_out(postgres_or_file) != "none"
    assert counts() == before


def test_a_trial_by_somebody_who_may_only_read(postgres: Postgres) -> None:
    """What the database says, in one error."""
    url = postgres.new()
    engine = open_engine(url)
    prepare(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
    engine.dispose()
    reader = make_url(url).set(username="reader").render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match="cannot be written: permission denied for table"):
        try_out(reader)
