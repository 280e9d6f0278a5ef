"""Tokens: where they come from, when they are renewed, and what is done when they are refused."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_twisted
from attrs import evolve
from google.auth import iam
from google.auth.compute_engine import _metadata
from google.auth.exceptions import RefreshError
from google.oauth2 import service_account
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.threads import deferToThread

from resumable.model import ObjectOptions
from resumable.stores.gcs import tokens as tokens_module
from resumable.stores.gcs.client import GcsStore
from resumable.stores.gcs.tokens import MISSING, Tokens
from resumable.stores.port import Misconfigured, StoreUnavailable
from resumable.stores.xmlapi.credentials import NoCredentials
from tests.protocols.harness import until
from tests.stores.fakes import FakeTime, R
from tests.stores.gcs.server import Fault, GcsServer
from tests.stores.s3.test_presign import fetch

PLAIN = ObjectOptions()


@pytest_twisted.async_yield_fixture
async def fresh(gcs: GcsServer) -> AsyncIterator[GcsStore]:
    """A client that has no token yet."""
    store = gcs.client(signer=Tokens(R, str(gcs.key)))
    yield store
    await store.close()


def ending_in(store: GcsStore, seconds: float) -> None:
    """Let the client think that its token ends then."""
    tokens = store._signer
    assert isinstance(tokens, Tokens)
    assert tokens._found is not None
    tokens._found = evolve(tokens._found, expires=time.time() + seconds)


@pytest_twisted.ensureDeferred
async def test_one_token_for_all(gcs: GcsServer, fresh: GcsStore) -> None:
    """However many calls need it at once."""
    await gatherResults([ensureDeferred(fresh.put_object("bucket", str(n), [b"x"], PLAIN)) for n in range(5)])
    assert gcs.names().count("Token") == 1
    assert len(gcs.buckets["bucket"]) == 5


@pytest_twisted.ensureDeferred
async def test_a_token_that_has_ended(gcs: GcsServer, fresh: GcsStore) -> None:
    await fresh.start()
    ending_in(fresh, -1)
    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    assert gcs.names() == ["Token", "Token", "PutObject"]


@pytest_twisted.ensureDeferred
async def test_a_token_that_ends_soon(gcs: GcsServer, fresh: GcsStore) -> None:
    """It is used while the next one is fetched, and not every call fetches one where those too end soon."""
    gcs.lifetime = 100
    await fresh.start()
    tokens = fresh._signer
    assert isinstance(tokens, Tokens)
    refused = threading.Event()
    gcs.faults.append(Fault("Token", 400, then=lambda: refused.wait(10)))
    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    await until(lambda: gcs.names().count("Token") == 2)
    assert tokens._renew.running
    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    refused.set()
    # The server has been asked, but whoever has asked it may not know its answer yet.
    await until(lambda: not tokens._renew.running)
    for _ in range(2):
        await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    assert gcs.names().count("Token") == 2
    tokens._next_renewal = 0.0
    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    await until(lambda: gcs.names().count("Token") == 3 and not tokens._renew.running)
    gcs.asked.clear()
    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    assert gcs.asked[0].headers["authorization"] == f"Bearer {list(gcs.tokens)[-1]}"


@pytest.mark.parametrize("call", ["put_object", "head_object", "move"])
@pytest_twisted.ensureDeferred
async def test_a_refused_token_is_replaced_once(gcs: GcsServer, fresh: GcsStore, call: str) -> None:
    async def ask() -> object:
        if call == "put_object":
            return await fresh.put_object("bucket", "k", [b"x"], PLAIN)
        return await (
            fresh.head_object("bucket", "k") if call == "head_object" else fresh._resources.find("bucket", "k")
        )

    await fresh.put_object("bucket", "k", [b"x"], PLAIN)
    gcs.tokens.clear()
    gcs.asked.clear()
    assert await ask() is not None
    assert [name == "Token" for name in gcs.names()] == [False, True, False]
    gcs.refuses_tokens = True
    gcs.asked.clear()
    with pytest.raises(Misconfigured) as caught:
        await ask()
    assert (caught.value.status, caught.value.everybody) == (401, True)
    assert [name == "Token" for name in gcs.names()] == [False, True, False]


@pytest.mark.parametrize("found", [True, False])
@pytest_twisted.ensureDeferred
async def test_tokens_that_are_refused_for_long(gcs: GcsServer, found: bool) -> None:
    """Not every request asks for another one; and when they are taken again, a refusal is answered at once as before."""
    time = FakeTime()
    store = gcs.client(signer=Tokens(time, str(gcs.key)))

    async def refused() -> list[str]:
        gcs.asked.clear()
        for name in "abc":
            with pytest.raises(Misconfigured):
                await store.put_object("bucket", name, [b"x"], PLAIN)
        return gcs.names()

    await store.put_object("bucket", "k", [b"x"], PLAIN)
    gcs.refuses_tokens = True
    faults = [] if found else [Fault("Token", 400)]
    first = ["PutObject", "Token", "PutObject"] if found else ["PutObject", "Token"]
    gcs.faults.extend(faults)
    assert await refused() == [*first, "PutObject", "PutObject"]
    time.passed = 1.9
    assert await refused() == ["PutObject"] * 3
    time.passed = 2.0
    gcs.faults.extend(faults)
    assert await refused() == [*first, "PutObject", "PutObject"]
    time.passed = 20.0
    gcs.refuses_tokens = False
    for _ in range(2):
        gcs.tokens.clear()
        gcs.asked.clear()
        await store.put_object("bucket", "k", [b"x"], PLAIN)
        assert gcs.names() == ["PutObject", "Token", "PutObject"]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_federation(gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment, as a pod has it. Nobody is asked for the project."""
    (tmp_path / "theirs").write_text("theirs")
    config = {
        "type": "external_account",
        "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": f"{gcs.endpoint}/token",
        "credential_source": {"file": str(tmp_path / "theirs")},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "config.json"))
    store = gcs.client(signer=Tokens(R))
    await store.start()
    await store.put_object("bucket", "k", [b"x"], PLAIN)
    assert gcs.names() == ["Token", "PutObject"]
    with pytest.raises(Misconfigured, match="CannotSign"):
        await store.presigned_get("bucket", "k", 60)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_machines_own(gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any file: the metadata server gives the tokens, and IAM signs URLs."""
    host = gcs.endpoint.removeprefix("http://")
    for name in ("GCE_METADATA_HOST", "GCE_METADATA_IP"):
        monkeypatch.setenv(name, host)
    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", host)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", gcs.endpoint + "/v1/{}:signBlob")
    store = gcs.client(signer=Tokens(R))
    await store.put_object("bucket", "k", [b"x"], PLAIN)
    assert gcs.names() == ["Token", "PutObject"]
    assert (await deferToThread(fetch, await store.presigned_get("bucket", "k", 60)))[:2] == (200, b"x")
    assert gcs.names()[-2:] == ["SignBlob", "GetObject"]
    await store.close()


@pytest_twisted.ensureDeferred
async def test_no_credentials(gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator is told what is wrong, and no secret."""
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    other = json.loads(gcs.key.read_text())
    with GcsServer() as stranger:
        other["private_key"] = json.loads(stranger.key.read_text())["private_key"]
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps(other))
    for path, words in ((tmp_path / "none", "not found"), (bad, "not a valid json"), (wrong, "Invalid JWT Signature")):
        store = gcs.client(signer=Tokens(R, str(path)))
        with pytest.raises(StoreUnavailable, match=words) as caught:
            await store.start()
        assert caught.value.code == "NoCredentials"
        assert "PRIVATE KEY" not in str(caught.value)
        await store.close()
    monkeypatch.setitem(sys.modules, "google.auth", None)
    store = gcs.client(signer=Tokens(R, str(gcs.key)))
    with pytest.raises(StoreUnavailable) as caught:
        await store.start()
    assert str(caught.value) == f"NoCredentials: {MISSING}"
    await store.close()


@pytest_twisted.ensureDeferred
async def test_a_server_of_tokens_that_says_nothing(
    gcs: GcsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for as long as google-auth would, which is two minutes."""
    monkeypatch.setattr(tokens_module, "SILENCE", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        account = json.loads(gcs.key.read_text())
        account["token_uri"] = f"http://127.0.0.1:{silent.getsockname()[1]}/token"
        (tmp_path / "key.json").write_text(json.dumps(account))
        tokens = Tokens(R, str(tmp_path / "key.json"))
        waiting = ensureDeferred(tokens.ready()).addTimeout(10, R)
        with pytest.raises(NoCredentials, match="TransportError"):
            await waiting


@pytest_twisted.ensureDeferred
async def test_an_answer_without_the_token(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What else is in it may be secret: google-auth puts all of it into its error."""

    def refresh(_: object, request: object) -> None:
        raise RefreshError("No access token in response.", {"id_token": "secret"}, retryable=False)

    monkeypatch.setattr(service_account.Credentials, "refresh", refresh)
    with pytest.raises(NoCredentials, match="No access token") as caught:
        await Tokens(R, str(gcs.key)).ready()
    assert "secret" not in str(caught.value)
