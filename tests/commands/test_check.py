"""`resumable check` against what can be wrong: one clear line, exit status 1, nothing left behind, no secret shown."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from tests.commands.conftest import NEEDED, RESUMABLE, Operator, StrictMoto, contents
from tests.faults.proxy import FaultyS3
from tests.harness import ROOT, Application
from tests.receiver import SECRET, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture
def proxy(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as started:
        yield started


@pytest.fixture
def application() -> Iterator[Application]:
    started = Application()
    yield started
    started.close()


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def newest() -> str:
    """The version of the ledger's tables."""
    return max(path.name[:4] for path in (ROOT / "resumable" / "ledger" / "migrations" / "versions").glob("0*.py"))


def test_all_is_well(
    operator: Operator, strict: StrictMoto, as_user: Callable[..., tuple[str, str]], application: Application
) -> None:
    """With exactly the documented permissions, and an application that says no to a stranger: a line for each, exit 0."""
    access_key, secret_key = as_user(NEEDED)
    application.refuse(401)
    store = {"access_key": access_key, "secret_key": secret_key}
    operator.configure(configuration(strict, store=store, auth={"url": f"{application.url}?token=hidden"}))
    ended = operator.run("check")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == [
        "app.yaml: ok",
        f"ledger sqlite:///ledger.sqlite3: ok (tables {newest()}, can be written)",
        "profile auto: no store that is known: ok (a store that speaks S3; region us-east-1; at most 10000 parts; CRC32C with "
        "each part)",
        "bucket bucket: ok (stores, reads, lists, deletes, multipart)",
        f"auth {application.url}: ok (answered 401 Unauthorized)",
    ]
    assert application.asked[0]["x-upload-action"] == "status"
    assert contents(strict) == []


def test_json(operator: Operator, moto: MotoServer, nobody: str) -> None:
    """For programs: every finding, and whether all is well."""
    operator.configure(configuration(moto, auth={"url": nobody}))
    ended = operator.run("check", "--json")
    assert (ended.returncode, ended.stderr) == (1, "")
    said = json.loads(ended.stdout)
    assert said["ok"] is False
    assert [(each["kind"], each["status"]) for each in said["checks"]] == [
        ("config", "ok"),
        ("ledger", "ok"),
        ("profile", "ok"),
        ("bucket", "ok"),
        ("auth", "failed"),
    ]
    assert all(each["advice"] for each in said["checks"] if each["status"] == "failed")


def test_a_wrong_configuration(operator: Operator) -> None:
    """A line for each problem, in the words of a start."""
    operator.configure({"listen": "nonsense", "auth": "open"})
    lines = operator.failures("check")
    assert "app.yaml: store.bucket: required" in lines
    assert all(line.startswith("app.yaml: ") for line in lines)
    assert len(lines) == 2


@pytest.mark.soak
@pytest.mark.parametrize("permission", sorted(NEEDED))
def test_a_missing_permission(
    operator: Operator, strict: StrictMoto, as_user: Callable[..., tuple[str, str]], permission: str
) -> None:
    """It is named as IAM names it, with what does not work without; what cannot be deleted is named too."""
    _, secret_key = as_user(NEEDED - {permission})
    lines = operator.failures("check")
    assert lines[0].startswith(f"bucket bucket: failed: {permission} is missing (AccessDenied): ")
    assert f"allow it on arn:aws:s3:::bucket{'' if 'Bucket' in permission else '/*'}" in lines[0]
    assert secret_key not in "".join(lines)
    left = contents(strict)
    if permission == "s3:DeleteObject":
        assert len(left) == 1
        assert lines[1:] == [f"bucket bucket: warning: {left[0]} could not be deleted again; delete it"]
        strict.boto3().delete_object(Bucket=strict.bucket, Key=left[0])
    else:
        assert (lines[1:], left) == ([], [])


def test_no_multipart_permissions(
    operator: Operator, strict: StrictMoto, as_user: Callable[..., tuple[str, str]]
) -> None:
    """A line for each of several."""
    missing = {"s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:ListBucketMultipartUploads"}
    as_user(NEEDED - missing)
    lines = operator.failures("check")
    assert {re.sub(r".*failed: (\S+) is missing.*", r"\1", line) for line in lines} == missing
    assert contents(strict) == []


def test_a_key_that_may_do_nothing(operator: Operator, as_user: Callable[..., tuple[str, str]]) -> None:
    """What could be tried is named; reading and multipart could not be, for want of anything to read."""
    as_user({"iam:GetUser"})
    named = {line.split()[3] for line in operator.failures("check")}
    assert named == {"s3:PutObject", "s3:ListBucket", "s3:DeleteObject", "s3:ListBucketMultipartUploads"}


def test_a_wrong_key(operator: Operator, strict: StrictMoto) -> None:
    operator.configure(configuration(strict, store={"access_key": "AKIAUNKNOWN"}))
    (line,) = operator.failures("check")
    assert line.startswith("bucket bucket: failed: the store does not know the access key (InvalidAccessKeyId); ")
    assert "store.access_key" in line


def test_a_wrong_secret(operator: Operator, strict: StrictMoto) -> None:
    operator.configure(configuration(strict, store={"secret_key": "wrong-secret"}))
    (line,) = operator.failures("check")
    assert line.startswith("bucket bucket: failed: the secret key is not the access key's (SignatureDoesNotMatch); ")
    assert "wrong-secret" not in line


def test_a_missing_bucket(operator: Operator, moto: MotoServer) -> None:
    operator.configure(configuration(moto, store={"bucket": "nowhere"}))
    (line,) = operator.failures("check")
    assert line.startswith("bucket nowhere: failed: there is no such bucket (NoSuchBucket); create it, ")


def test_a_bucket_elsewhere(operator: Operator, moto: MotoServer, application: Application) -> None:
    """Amazon S3 says in a header where it is."""
    application.refuse(301, b"", **{"x-amz-bucket-region": "eu-west-1"})
    operator.configure(configuration(moto, store={"endpoint": application.url.removesuffix("/allow")}))
    (line,) = operator.failures("check")
    assert line.startswith("bucket bucket: failed: the bucket is in another region, eu-west-1 (")
    assert line.endswith("; store.region: eu-west-1")


def test_nobody_at_the_endpoint(operator: Operator, moto: MotoServer, nobody: str) -> None:
    operator.configure(configuration(moto, store={"endpoint": nobody, "patience": "1s"}))
    (line,) = operator.failures("check")
    assert line.startswith("bucket bucket: failed: cannot be reached: ConnectionRefusedError: ")
    assert "store.endpoint" in line


def test_a_store_that_refuses_checksums(operator: Operator, moto: MotoServer, proxy: FaultyS3) -> None:
    """What goes well without them was refused for them."""
    proxy.fail("PutFragment", "501 NotImplemented")
    operator.configure(configuration(proxy))
    (line,) = operator.failures("check")
    assert line == "bucket bucket: failed: refuses CRC32C checksums (NotImplemented); store.checksum: none"
    assert contents(moto) == []


def test_a_store_that_refuses_for_good(operator: Operator, moto: MotoServer, proxy: FaultyS3) -> None:
    """Refused with checksums and without: the store's own words."""
    proxy.fail("UploadPart", "400 EntityTooSmall", 0)
    operator.configure(configuration(proxy))
    (line,) = operator.failures("check")
    assert line.startswith("bucket bucket: failed: refuses UploadPart: EntityTooSmall: ")
    assert contents(moto) == []


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["PutFragment", "GetFragment", "Create", "UploadPart", "Complete", "Abort"])
def test_an_answer_that_is_lost(operator: Operator, moto: MotoServer, proxy: FaultyS3, kind: str) -> None:
    """The work may be done: whatever it was, nothing of it stays."""
    proxy.fail(kind, "break after", 1)
    proxy.fail(kind, "503", 0)
    operator.configure(configuration(proxy, store={"patience": "1s"}))
    ended = operator.run("check")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (1, 1), ended
    assert contents(moto) == []


#: A shell's background jobs, and their children, are started with Ctrl-C ignored: the tests may be one.
AT_A_TERMINAL = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"


def test_interrupted(operator: Operator, moto: MotoServer, proxy: FaultyS3) -> None:
    """Ctrl-C in the middle: nothing is left, and no traceback."""
    started: Queue[subprocess.Popen[str]] = Queue()
    # While the store has the part, and says nothing yet.
    proxy.fail("UploadPart", "late", then=lambda: started.get(timeout=20).send_signal(signal.SIGINT))
    operator.configure(configuration(proxy))
    process = subprocess.Popen(
        [sys.executable, "-c", AT_A_TERMINAL + RESUMABLE, "check", "--config", "app.yaml"],
        cwd=operator.directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started.put(process)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (1, "Aborted!")
    time.sleep(1.2)  # what was late has come by now
    assert contents(moto) == []


@pytest.mark.soak
@pytest.mark.parametrize(
    ("status", "exit_status", "says"),
    [
        (204, 0, "ok (answered 204 No Content)"),
        (404, 0, "warning: answered 404 Not Found to GET; is the path in auth.url right?"),
        (302, 0, "warning: answered 302 Found; redirects are not followed: name the target in auth.url"),
        (500, 1, "failed: answered 500 Internal Server Error; look at the application's log"),
        (0, 1, "failed: cannot be reached: "),
    ],
)
def test_what_the_application_answers(
    operator: Operator, moto: MotoServer, application: Application, status: int, exit_status: int, says: str
) -> None:
    """Any answer but a 5xx says that it is there; what it says is shown."""
    application.refuse(status)
    operator.configure(configuration(moto, auth={"url": application.url}))
    ended = operator.run("check")
    assert ended.returncode == exit_status
    assert (ended.stdout + ended.stderr).splitlines()[-1].startswith(f"auth {application.url}: {says}")


def test_an_application_that_is_away(operator: Operator, moto: MotoServer, nobody: str) -> None:
    operator.configure(configuration(moto, auth={"url": f"{nobody}/allow?token=hidden"}))
    (line,) = operator.failures("check")
    assert line.startswith(f"auth {nobody}/allow: failed: cannot be reached: Connection was refused")
    assert "hidden" not in line


@pytest.mark.soak
def test_a_receiver_of_events(operator: Operator, moto: MotoServer, application: Application, nobody: str) -> None:
    """One that takes no events, one that does, and one that is away; the secret is not shown."""
    events = {"url": application.url, "secret": SECRET}
    operator.configure(configuration(moto, events=events))
    (line,) = operator.failures("check")
    assert line.startswith(f"events {application.url}: failed: answered 501 ")
    with Receiver() as receiver:
        receiver.refuses_forged = True
        operator.configure(configuration(moto, events={**events, "url": receiver.url}))
        for command in (["check"], ["events", "test"]):
            ended = operator.run(*command)
            assert (ended.returncode, ended.stderr) == (0, "")
            assert ended.stdout.splitlines()[-1] == (
                f"events {receiver.url}: ok (answered 204 No Content to a signed test event, and refuses a forged one with 401)"
            )
        assert [heard.type for heard in receiver.heard] == ["resumable.test"] * 2
    assert sorted(path.name for path in operator.directory.iterdir()) == ["app.yaml"], "nothing is created"
    operator.configure(configuration(moto, events={**events, "url": nobody}))
    (line,) = operator.failures("check")
    assert line.startswith(f"events {nobody}: failed: cannot be reached: Connection was refused")


def test_an_application_that_never_answers(operator: Operator, moto: MotoServer) -> None:
    """The service would wait as long and no longer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/allow"
        operator.configure(configuration(moto, auth={"url": url, "timeout": "300ms"}))
        (line,) = operator.failures("check")
    assert line.startswith(f"auth {url}: failed: cannot be reached: no answer within 0.3 s; ")


@pytest.mark.parametrize("wrong", ["newer", "no folder", "not a database"])
def test_a_ledger_that_cannot_be_used(operator: Operator, moto: MotoServer, tmp_path: Path, wrong: str) -> None:
    """Why, in one line; the rest is looked at all the same."""
    config: dict[str, Any] = configuration(moto)
    if wrong == "newer":
        with sqlite3.connect(tmp_path / "ledger.sqlite3") as ledger:
            ledger.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
            ledger.execute("INSERT INTO alembic_version VALUES ('9999')")
    elif wrong == "no folder":
        config["ledger"] = "sqlite:///nowhere/ledger.sqlite3"
    else:
        (tmp_path / "ledger.sqlite3").write_text("these are not the tables you are looking for " * 50)
    operator.configure(config)
    ended = operator.run("check")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"ledger {config['ledger']}: failed: ")
    assert "bucket bucket: ok" in ended.stdout
