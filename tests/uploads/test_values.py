"""What names, owners, keys, metadata and headers may be, whoever gives them; and that nothing else becomes an upload."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from resumable.model import Invalid, ObjectOptions, Rejected, Unavailable, Unsupported
from resumable.stores.s3.options import option_headers
from resumable.uploads import values
from resumable.uploads.policy import CreateRequest, Policy
from resumable.uploads.values import Unfit
from tests.policy import policy as defaults

POLICY = defaults("bucket")
WANTED = CreateRequest("put", "name")


def new(wanted: CreateRequest, policy: Policy = POLICY) -> Any:
    return policy.new_upload(wanted, "id", 0.0)


#: What JSON, a database, a header or XML cannot hold.
NO_TEXT = [
    "\x00",
    "a\nb",
    "\x1f",
    "\x7f",
    "\x85",
    "\ud800",
    "x\udfff",
    "\ufdd0",
    "\ufffe",
    "\uffff",
    "\U0001fffe",
    "\U0010ffff",
]


@pytest.mark.parametrize("bad", NO_TEXT, ids=ascii)
def test_what_is_no_text_is_nowhere(bad: str) -> None:
    for field, wanted in {
        "name": evolve(WANTED, name=bad),
        "owner": evolve(WANTED, owner=bad),
        "key": evolve(WANTED, key=bad),
        "metadata": evolve(WANTED, options=ObjectOptions(metadata={"k": bad})),
        "content_type": evolve(WANTED, options=ObjectOptions(content_type=bad)),
        "content_disposition": evolve(WANTED, options=ObjectOptions(content_disposition=bad)),
        "tags": evolve(WANTED, options=ObjectOptions(tags={"k": bad})),
    }.items():
        with pytest.raises(Rejected) as caught:
            new(wanted)
        assert caught.value.field == field
        assert bad not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "x\u2028", "(", "a/b"])
def test_metadata_names_that_no_header_has(name: str) -> None:
    with pytest.raises(Rejected, match="names that a header can have"):
        new(evolve(WANTED, options=ObjectOptions(metadata={name: "x"})))


@pytest.mark.parametrize("name", ["resumable-token", "Resumable-Token", "RESUMABLE-ledger", "resumable-"])
def test_the_services_own_metadata(name: str) -> None:
    with pytest.raises(Rejected, match="service's own"):
        new(evolve(WANTED, options=ObjectOptions(metadata={name: "x"})))


@pytest.mark.parametrize("count", [65, 100, 120, 700])
@pytest.mark.parametrize("value", ["", "v"])
def test_more_entries_than_servers_take(count: int, value: str) -> None:
    """moto, and whatever else is built on Python's server, answers more than 100 headers with a bare 431."""
    with pytest.raises(Rejected, match=r"at most (64 entries|1990 bytes)") as caught:
        new(evolve(WANTED, options=ObjectOptions(metadata={f"k{number}": value for number in range(count)})))
    assert caught.value.field == "metadata"


def test_as_many_entries_as_servers_take() -> None:
    metadata = {f"k{number}": "v" for number in range(64)}
    assert new(evolve(WANTED, options=ObjectOptions(metadata=metadata))).options.metadata == metadata


def test_entries_of_client_and_application_together() -> None:
    """Each has few enough."""
    ours, theirs = ({f"{who}{number}": "" for number in range(40)} for who in "ab")
    values.check_metadata(ours)
    values.check_metadata(theirs)
    with pytest.raises(Rejected, match="64 entries") as caught:
        new(evolve(WANTED, options=ObjectOptions(metadata=values.overlaid(ours, theirs))))
    assert caught.value.field == "metadata"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (ObjectOptions(content_type="ü" * 512, content_encoding="e" * 250, metadata={"k": "v" * 1900}), "content_type"),
        (ObjectOptions(content_disposition=f"attachment; filename={'ü' * 400}", metadata={"k": "v" * 1900}), None),
        (
            ObjectOptions(
                tags={f"k{number}": "v" * 250 for number in range(10)},
                metadata={"m": "x" * 1900},
                content_type="c" * 1000,
            ),
            "tags",
        ),
        (ObjectOptions(tags={f"k{number}": "ü" * 64 for number in range(10)}, metadata={"m": "x" * 1900}), "tags"),
        (
            ObjectOptions(
                content_type="c" * 1024,
                content_disposition="d" * 1024,
                content_encoding="e" * 250,
                cache_control="f" * 1500,
                metadata={"k": "x" * 1900},
            ),
            "metadata",
        ),
    ],
)
def test_all_headers_together(options: ObjectOptions, field: str | None) -> None:
    """Each fits by itself; S3 takes 8 KB of a request's headers."""
    if field is None:
        assert sum(len(name) + len(value) for name, value in option_headers(options).items()) < values.MAX_HEADERS
        new(evolve(WANTED, options=options))
        return
    with pytest.raises(Rejected, match="leave room") as caught:
        new(evolve(WANTED, options=options))
    assert caught.value.field == field


def test_tags_as_they_are_encoded() -> None:
    """128 characters may be 1.5 KB of a header."""
    with pytest.raises(Rejected, match="percent-encoded") as caught:
        new(evolve(WANTED, options=ObjectOptions(tags={chr(0x1F600 + number) * 128: "" for number in range(10)})))
    assert caught.value.field == "tags"


@pytest.mark.parametrize(
    ("owner", "name"), [("o" * 1023, "n"), ("/" * 400, "name"), ("%" * 342, "n" * 20), ("ü" * 500, "é" * 20)]
)
def test_an_owner_that_is_too_long_is_named(owner: str, name: str) -> None:
    """The client could make its name as short as it likes."""
    with pytest.raises(Rejected, match=r"^owner leaves too few") as caught:
        new(evolve(WANTED, owner=owner, name=name))
    assert caught.value.field == "owner"
    with pytest.raises(Rejected) as other:
        new(evolve(WANTED, owner="o" * 100, name="n" * 1000))
    assert other.value.field == "name"


def test_metadata_that_stores_take_for_one() -> None:
    with pytest.raises(Rejected, match="twice"):
        new(evolve(WANTED, options=ObjectOptions(metadata={"Name": "x", "name": "y"})))
    assert values.overlaid({"Name": "x", "b": "1"}, {"name": "y"}) == {"b": "1", "name": "y"}


def test_all_metadata_together() -> None:
    """Counted as MinIO counts: names with their prefix, and values as they are sent, which takes more if not ASCII."""
    fits = {"k": "v" * (values.MAX_METADATA - len("x-amz-meta-k"))}
    assert new(evolve(WANTED, options=ObjectOptions(metadata=fits))).options.metadata == fits
    for metadata in ({"kk": fits["k"]}, {"k": "ü" * 900}, {f"n{number}": "x" * 300 for number in range(10)}):
        with pytest.raises(Rejected, match="at most 1990 bytes") as caught:
            new(evolve(WANTED, options=ObjectOptions(metadata=metadata)))
        assert caught.value.field == "metadata"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "a/..", "a/../b", "./a", "a/ .. /b", "k" * 1025, "é" * 513]
)
def test_keys_that_some_store_refuses(key: str) -> None:
    with pytest.raises(Unfit) as caught:
        values.check_key(key)
    assert caught.value.field == "key"


@pytest.mark.parametrize("name", ["/a", "a/", "a//b", "a/ . ", "n" * 1025])
def test_names_that_would_make_them(name: str) -> None:
    with pytest.raises(Rejected) as caught:
        new(evolve(WANTED, name=name))
    assert caught.value.field == "name"


def test_a_name_that_is_not_in_the_key() -> None:
    """It need only be a name."""
    assert new(evolve(WANTED, name="a//b/"), defaults("bucket", key="{owner}/{id}")).key == "id"
    with pytest.raises(Invalid):
        new(evolve(WANTED, name="a/../b"), defaults("bucket", key="{id}"))


def test_the_services_own_prefix() -> None:
    """A client is told; that the application has chosen it is not the client's fault."""
    with pytest.raises(Rejected):
        new(evolve(WANTED, name=".resumable/x"))
    with pytest.raises(Unavailable):
        new(evolve(WANTED, key=".resumable/x"))


# Owners


@pytest.mark.parametrize(
    ("owner", "segment"),
    [
        ("alice", "alice"),
        ("alice@example.com", "alice@example.com"),
        ("a b.c", "a b.c"),
        ("alice/b", "alice%2Fb"),
        ("alice%2Fb", "alice%252Fb"),
        (".", "%2E"),
        ("..", "%2E%2E"),
        (" .. ", " %2E%2E "),
        ("...", "..."),
        ("/", "%2F"),
        ("ü", "ü"),
    ],
)
def test_an_owner_is_one_segment(owner: str, segment: str) -> None:
    assert values.owner_segment(owner) == segment
    assert new(evolve(WANTED, owner=owner, name="b/c")).key == f"{segment}/b/c"


owners = st.text(st.sampled_from("a./% \x01é2FE"), min_size=1, max_size=6)


@given(owners, owners)
def test_no_two_owners_meet(one: str, other: str) -> None:
    """Nor does one climb out of its folder."""
    segments = values.owner_segment(one), values.owner_segment(other)
    assert (segments[0] == segments[1]) == (one == other)
    for segment in segments:
        assert "/" not in segment
        assert segment.strip() not in (".", "..")


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("{owner}/{name}", "n"),
        ("{name}/{owner}", "n"),
        ("a/{owner}/{name}", "a/n"),
        ("u-{owner}/{name}", "u-/n"),
        ("{owner}{owner}/{name}", "n"),
        ("{owner}-{name}", "-n"),
    ],
)
def test_nobody_in_particular(template: str, key: str) -> None:
    """An empty owner leaves no slash."""
    assert new(evolve(WANTED, name="n"), defaults("bucket", key=template)).key == key


# Content codings


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("gzip", "gzip"),
        ("gzip, br", "gzip, br"),
        (" gzip ,, br", "gzip, br"),
        ("identity", None),
        ("", None),
        ("zstd", "zstd"),
    ],
)
def test_content_encodings(said: str, kept: str | None) -> None:
    assert values.check_content_encoding(said) == kept


@pytest.mark.parametrize("said", ["aws-chunked", "gzip, AWS-chunked", "gzip;q=1", "a b", "ü", 5, None, "x" * 300])
def test_content_encodings_that_cannot_be_kept(said: Any) -> None:
    with pytest.raises(Unsupported), values.from_client():
        values.check_content_encoding(said)


# Answers


@pytest.mark.parametrize(
    "name",
    [
        "Transfer-Encoding",
        "content-length",
        "CONNECTION",
        "Keep-Alive",
        "Upgrade",
        "Trailer",
        "TE",
        "a b",
        "",
        "a:b",
        "ü",
        "a\n",
        5,
    ],
)
def test_fields_that_are_not_the_applications(name: Any) -> None:
    kept, dropped = values.answer_headers([("X-Video", "42"), (name, "chunked")])
    assert kept == (("X-Video", "42"),)
    assert len(dropped) == 1


@pytest.mark.parametrize(
    "value",
    ["a\r\nX-Evil: 1", "\x00", "\ud800", None, 1.5, True, [], {}, "x" * 5000, "é", "http://\u00e9/", "€", "\u2028"],
)
def test_values_that_are_no_fields(value: Any) -> None:
    assert values.answer_headers([("X-Video", value), ("Retry-After", 5)]) == ((("Retry-After", "5"),), ("'X-Video'",))


# All together


anything = st.text(max_size=30) | st.text(st.sampled_from("a./%\x00\ud800\ufffe é\n"), max_size=8)


@given(
    st.builds(dict, name=anything, owner=anything, key=st.none() | anything),
    st.dictionaries(anything, anything),
    anything,
)
def test_what_becomes_an_upload_can_be_stored(said: dict[str, Any], metadata: dict[str, str], kind: str) -> None:
    """Whatever is asked for: refused with the field's name, or such that JSON, UTF-8, headers and XML hold it."""
    try:
        upload = new(CreateRequest("put", **said, options=ObjectOptions(content_type=kind, metadata=metadata)))
    except Rejected as error:
        assert error.field in ("name", "owner", "key", "metadata", "content_type")
        return
    except Unavailable:
        return
    for text in (upload.key, upload.name, upload.owner):
        assert json.loads(json.dumps(text)) == text
        assert ElementTree.fromstring(f"<k>{escape(text)}</k>").text in (text, None)
        assert "\x00" not in text
    for name, value in option_headers(upload.options).items():
        assert f"{name}: {value}".isascii()
        assert value == "" or value.isprintable()
