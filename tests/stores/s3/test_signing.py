"""Whose signature a request bears, and where credentials are come by."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_twisted
from attrs import evolve
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials, ReadOnlyCredentials, RefreshableCredentials
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, ensureDeferred, gatherResults
from twisted.internet.task import deferLater

from resumable.model import ObjectOptions
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.s3.signature import sign
from resumable.stores.s3.signing import NoCredentials, Signer
from tests.stores.fakes import FakeStore, FakeTime, R, answer, error, stored

URL = "http://127.0.0.1/b/k%2B?partNumber=1&uploadId=u"


class Chain:
    """Stands for botocore's session: hands out what it is given, and notes the threads it is asked from."""

    def __init__(self, *found: Any) -> None:
        self.found = list(found)
        self.threads: list[int] = []

    def __call__(self) -> Chain:
        return self

    def get_credentials(self) -> Any:
        self.threads.append(threading.get_ident())
        return self.found.pop(0)


@pytest.fixture
def chain(monkeypatch: pytest.MonkeyPatch) -> Chain:
    session = Chain()
    monkeypatch.setattr("botocore.session.Session", session)
    return session


@pytest_twisted.async_yield_fixture
async def fake() -> AsyncIterator[FakeStore]:
    server = FakeStore()
    yield server
    await server.close()


def refreshable(seconds: float, new: list[str], threads: list[int] | None = None) -> RefreshableCredentials:
    """Credentials that expire so soon, and are then each of the new ones in turn, for an hour."""

    def renew() -> dict[str, str]:
        if threads is not None:
            threads.append(threading.get_ident())
        if not new:
            raise OSError("the instance is not at home")
        expiry = datetime.now(timezone.utc) + timedelta(hours=1)
        return {"access_key": new.pop(0), "secret_key": "s", "token": "t", "expiry_time": expiry.isoformat()}

    expiry = datetime.now(timezone.utc) + timedelta(seconds=seconds)
    return RefreshableCredentials("old", "s", "t", expiry, renew, "test")


def signed_by(signer: Signer) -> str:
    authorization = dict(signer.sign("PUT", URL, {"Host": "127.0.0.1"}))["Authorization"]
    return authorization.partition("Credential=")[2].partition("/")[0]


def test_it_is_the_signature_that_botocore_makes() -> None:
    signer = Signer(R, "eu-west-1", access_key="key", secret_key="hidden", session_token="token")
    headers = {"Host": "127.0.0.1", "x-amz-meta-a": "b  c"}
    signed = dict(signer.sign("PUT", URL, headers))
    assert signed["X-Amz-Content-SHA256"] == "UNSIGNED-PAYLOAD"
    assert signed["X-Amz-Security-Token"] == "token"
    credentials = ReadOnlyCredentials("key", "hidden", "token")
    theirs = AWSRequest(method="PUT", url=URL, headers=headers)
    theirs.context["client_config"] = type("C", (), {"s3": {"payload_signing_enabled": False}})
    S3SigV4Auth(credentials, "s3", "eu-west-1").add_auth(theirs)
    assert set(theirs.headers) == set(signed)
    if theirs.headers["X-Amz-Date"] == signed["X-Amz-Date"]:
        assert theirs.headers["Authorization"] == signed["Authorization"]
    assert "hidden" not in str(signed)


#: What percent-encoding leaves, and values as headers may have them.
ENCODED = st.text(st.sampled_from("aZ0-_.~%/+*'():@"), max_size=20)
VALUES = st.text(st.sampled_from("aZ0 \t-_.=/;,:é"), max_size=20)
NAMES = st.text(st.sampled_from("aBz09-"), min_size=1, max_size=8).map(lambda name: f"x-amz-meta-{name}")


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=st.lists(ENCODED, max_size=4).map("/".join),
    query=st.lists(st.tuples(ENCODED.filter(lambda name: "=" not in name), ENCODED), max_size=4),
    headers=st.dictionaries(NAMES, VALUES, max_size=5).filter(
        lambda headers: len({name.lower() for name in headers}) == len(headers)
    ),
    secret=st.text(min_size=1, max_size=40),
    token=st.none() | st.sampled_from(["", "token=="]),
    region=st.sampled_from(["eu-west-1", "auto"]),
    time=st.integers(0, 4_000_000_000),
)
def test_every_signature_is_the_one_that_botocore_makes(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    secret: str,
    token: str | None,
    region: str,
    time: int,
) -> None:
    url = f"https://bucket.example:9000/{path}" + ("?" if query else "") + "&".join(f"{n}={v}" for n, v in query)
    given = {"Host": "bucket.example:9000", **headers}
    credentials = ReadOnlyCredentials("key", secret, token)
    signed = sign(method, url, given, credentials, region, float(time))
    moment = datetime.fromtimestamp(time, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    expected = {**given, "X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD", "X-Amz-Date": moment}
    if token:
        expected["X-Amz-Security-Token"] = token
    theirs = AWSRequest(method=method, url=url, headers=expected)
    # Each version of botocore asks for the time in its own way: it is told here, and signs in the steps of add_auth().
    theirs.context["timestamp"] = moment
    auth = S3SigV4Auth(credentials, "s3", region)
    signature = auth.signature(auth.string_to_sign(theirs, auth.canonical_request(theirs)), theirs)
    names = auth.signed_headers(auth.headers_to_sign(theirs))
    authorization = f"AWS4-HMAC-SHA256 Credential={auth.scope(theirs)}, SignedHeaders={names}, Signature={signature}"
    assert {**expected, "Authorization": authorization} == signed


@pytest_twisted.ensureDeferred
async def test_the_chain_is_asked_once_and_in_a_thread(chain: Chain) -> None:
    chain.found = [Credentials("found", "s")]
    signer = Signer(R, "eu-west-1")
    given_up = ensureDeferred(signer.ready())
    waiting = [ensureDeferred(signer.ready()) for _ in range(5)]
    given_up.cancel()
    with pytest.raises(CancelledError):
        await given_up
    await gatherResults(waiting)
    await signer.ready()
    assert signed_by(signer) == "found"
    assert len(chain.threads) == 1
    assert chain.threads[0] != threading.get_ident()


@pytest_twisted.ensureDeferred
async def test_nothing_is_found(chain: Chain, fake: FakeStore) -> None:
    chain.found = [None] * 100
    store = fake.store(access_key=None, secret_key=None, patience=0.05)
    with pytest.raises(StoreUnavailable, match="NoCredentials: no credentials are configured"):
        await store.put_object("b", "k", [b"x"], ObjectOptions())
    with pytest.raises(StoreUnavailable, match="NoCredentials"):
        await store.start()
    assert len(chain.threads) > 2


@pytest_twisted.ensureDeferred
async def test_what_is_due_is_renewed_while_the_old_is_used(chain: Chain) -> None:
    threads: list[int] = []
    chain.found = [source := refreshable(3600, ["new"], threads)]
    signer = Signer(R, "eu-west-1")
    await signer.ready()
    assert signed_by(signer) == "old"
    source._expiry_time = datetime.now(timezone.utc) + timedelta(minutes=12)
    await signer.ready()
    assert signed_by(signer) == "old"
    await deferLater(R, 0.1)
    assert signed_by(signer) == "new"
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


@pytest_twisted.ensureDeferred
async def test_what_expires_now_is_waited_for(chain: Chain) -> None:
    chain.found = [source := refreshable(3600, ["new"])]
    signer = Signer(R, "eu-west-1")
    await signer.ready()
    source._expiry_time = datetime.now(timezone.utc) + timedelta(minutes=1)
    await gatherResults([ensureDeferred(signer.ready()) for _ in range(3)])
    assert signed_by(signer) == "new"
    source._expiry_time = datetime.now(timezone.utc) + timedelta(minutes=1)
    with pytest.raises(NoCredentials, match="not at home"):
        await signer.ready()


@pytest_twisted.ensureDeferred
async def test_an_expired_token_is_replaced_once(chain: Chain, fake: FakeStore) -> None:
    chain.found = [Credentials("first", "s", "t"), Credentials("second", "s", "t"), Credentials("third", "s", "t")]
    store = fake.store(access_key=None, secret_key=None)
    fake.answers = [error(400, "ExpiredToken"), stored()]
    await store.put_object("b", "k", [b"x"], ObjectOptions())
    signatures = [request.header("authorization") or "" for request in fake.requests]
    assert ["Credential=first/" in signatures[0], "Credential=second/" in signatures[1]] == [True, True]
    fake.answers = [error(400, "ExpiredToken")] * 2
    with pytest.raises(StoreUnavailable, match="ExpiredToken"):
        await store.put_object("b", "k", [b"x"], ObjectOptions())


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query, strict_parsing=True))


def test_a_presigned_url_is_the_one_that_botocore_makes() -> None:
    signer = Signer(R, "eu-west-1", access_key="key", secret_key="hidden", session_token="to/k=n")
    session = Session()
    session.set_credentials("key", "hidden", "to/k=n")
    client = session.create_client(
        "s3", "eu-west-1", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
    )
    while True:
        found = signer.presign("GET", "https://bucket.s3.eu-west-1.amazonaws.com/a%20b%2B%25/%C3%BC", 300)
        theirs = client.generate_presigned_url("get_object", {"Bucket": "bucket", "Key": "a b+%/ü"}, 300)
        if query_of(found)["X-Amz-Date"] == query_of(theirs)["X-Amz-Date"]:
            break  # both in the same second
    assert found.partition("?")[0] == theirs.partition("?")[0]
    assert query_of(found) == query_of(theirs)
    assert query_of(found)["X-Amz-Security-Token"] == "to/k=n"
    assert "hidden" not in found


@pytest.mark.parametrize(("left", "valid"), [(3600, 300), (700, 300), (100, 99), (10, 9)])
@pytest_twisted.ensureDeferred
async def test_a_presigned_url_ends_with_its_credentials(chain: Chain, left: int, valid: int) -> None:
    signer = Signer(R, "eu-west-1")
    chain.found = [source := refreshable(3600, [])]
    await signer.ready()
    assert signer._found is not None
    signer._found = evolve(signer._found, expires=datetime.now(timezone.utc) + timedelta(seconds=left))
    assert source.refresh_needed(3000) is False, "nothing is renewed here"
    assert query_of(signer.presign("GET", "https://b/k", 300))["X-Amz-Expires"] == str(valid)


@pytest_twisted.ensureDeferred
async def test_nothing_is_presigned_with_credentials_that_have_ended(chain: Chain, fake: FakeStore) -> None:
    """They are renewed first; where that fails the store is in trouble, and the client gets no URL that is dead."""
    renewed = ["new"]
    chain.found = [source := refreshable(3600, renewed)]
    store = fake.store(access_key=None, secret_key=None)
    await store.start()
    source._expiry_time = datetime.now(timezone.utc) - timedelta(seconds=1)
    query = query_of(await store.presigned_get("b", "k", 300))
    assert (query["X-Amz-Credential"].partition("/")[0], query["X-Amz-Expires"]) == ("new", "300")
    source._expiry_time = datetime.now(timezone.utc) - timedelta(seconds=1)
    with pytest.raises(StoreUnavailable, match="NoCredentials"):
        await store.presigned_get("b", "k", 300)
    assert fake.requests == []


@pytest_twisted.ensureDeferred
async def test_nothing_is_presigned_without_credentials(chain: Chain, fake: FakeStore) -> None:
    chain.found = [None]
    with pytest.raises(StoreUnavailable, match="NoCredentials"):
        await fake.store(access_key=None, secret_key=None).presigned_get("b", "k", 300)


@pytest_twisted.ensureDeferred
async def test_a_given_token_that_expired_is_not_replaced(fake: FakeStore) -> None:
    fake.answers = [error(400, "ExpiredToken")]
    with pytest.raises(StoreUnavailable, match="ExpiredToken"):
        await fake.store(session_token="t").put_object("b", "k", [b"x"], ObjectOptions())
    assert len(fake.requests) == 1


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
@pytest_twisted.ensureDeferred
async def test_rotated_keys_are_looked_up_again(chain: Chain, fake: FakeStore, code: str) -> None:
    """Keys that were replaced where they come from, while the old ones are in memory: once, and then it is a refusal."""
    chain.found = [Credentials("first", "s"), Credentials("second", "s"), Credentials("third", "s")]
    store = fake.store(access_key=None, secret_key=None)
    fake.answers = [error(403, code), stored()]
    await store.put_object("b", "k", [b"x"], ObjectOptions())
    signatures = [request.header("authorization") or "" for request in fake.requests]
    assert ["Credential=first/" in signatures[0], "Credential=second/" in signatures[1]] == [True, True]
    fake.answers = [error(403, code)] * 2
    with pytest.raises(StoreError, match=code) as caught:
        await store.put_object("b", "k", [b"x"], ObjectOptions())
    assert (caught.value.said, isinstance(caught.value, StoreUnavailable)) == (True, False)
    assert (len(fake.requests), len(chain.threads)) == (4, 3)


@pytest_twisted.ensureDeferred
async def test_given_keys_are_not_looked_up(chain: Chain, fake: FakeStore) -> None:
    fake.answers = [error(403, "InvalidAccessKeyId"), answer(403)]
    with pytest.raises(StoreError, match="InvalidAccessKeyId"):
        await fake.store().put_object("b", "k", [b"x"], ObjectOptions())
    with pytest.raises(StoreError, match="AccessDenied"):
        await fake.store().probe("b")
    assert (len(fake.requests), chain.threads) == (2, [])


@pytest_twisted.ensureDeferred
async def test_keys_that_are_refused_for_long(chain: Chain) -> None:
    """Not every request asks the chain."""
    time = FakeTime()
    signer = Signer(time, "eu-west-1")
    chain.found = [Credentials(name, "s") for name in "abcd"]
    await signer.ready()
    assert await signer.replace()
    assert await signer.replace()  # what was found meanwhile has been taken, as far as is known
    signer.refused_again()
    assert not await signer.replace()
    time.passed = 2.0
    assert await signer.replace()
    assert signed_by(signer) == "d"
    with pytest.raises(NoCredentials):
        await signer.replace()  # nothing is found
    assert not await signer.replace()


@pytest_twisted.ensureDeferred
async def test_a_code_that_the_store_did_not_say_replaces_nothing(chain: Chain, fake: FakeStore) -> None:
    chain.found = [Credentials("first", "s")]
    fake.answers = [answer(403, "<html>InvalidAccessKeyId")]
    with pytest.raises(StoreError, match="AccessDenied"):
        await fake.store(access_key=None, secret_key=None).put_object("b", "k", [b"x"], ObjectOptions())
    assert len(chain.threads) == 1


@pytest.mark.parametrize("status", [400, 403])
@pytest_twisted.ensureDeferred
async def test_rotated_keys_are_found_by_a_probe_too(chain: Chain, fake: FakeStore, status: int) -> None:
    """A HEAD is not told why it is refused; a node that is not ready makes no other calls. But it does not ask each time."""
    chain.found = [Credentials("first", "s"), Credentials("second", "s"), Credentials("third", "s")]
    store = fake.store(access_key=None, secret_key=None)
    fake.answers = [answer(status), answer(200)]
    await store.probe("b")
    assert "Credential=second/" in (fake.requests[1].header("authorization") or "")
    fake.answers = [answer(status)]
    with pytest.raises(StoreError):
        await store.probe("b")
    assert len(chain.threads) == 2
