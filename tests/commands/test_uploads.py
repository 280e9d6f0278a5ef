"""`resumable uploads` beside a service that runs: what is listed, shown and cancelled is what its clients see."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import insert, select

from resumable.ledger.engine import open_engine, prepare
from resumable.ledger.schema import events, pieces, uploads
from resumable.model import State
from resumable.uploads.policy import CreateRequest
from tests.commands.conftest import RESUMABLE, Operator, contents
from tests.faults.proxy import FaultyS3
from tests.harness import ROOT, Client, Service, eventually
from tests.policy import policy
from tests.receiver import SECRET
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

MIB = 2**20
LENGTH = 20 * MIB


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(moto: MotoServer) -> Iterator[FaultyS3]:
    with FaultyS3(moto) as started:
        yield started


@pytest.fixture(scope="module")
def service(proxy: FaultyS3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("operator"), configuration(proxy, store={"patience": "1s"})) as started:
        yield started


@pytest.fixture
def beside(service: Service, proxy: FaultyS3) -> Operator:
    """Somebody where the service runs."""
    proxy.reset()
    return Operator(service.directory)


def broken_off(service: Service, name: str, size: int = 8 * MIB) -> Any:
    """An upload that broke off after `size` bytes; what the service says of it."""
    with Client(service.port) as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(LENGTH)})
        client.send(bytes(size))

    def stored() -> Any:
        answer = service.request("GET", f"/upload/{name}")
        return answer.json if answer.status == 200 and answer.json["offset"] == size else None

    return eventually(stored)


def test_list_and_show(service: Service, beside: Operator) -> None:
    """The same as ``GET /uploads/ID``, for programs and for people; the newest first."""
    done = service.request("PUT", "/upload/done.txt", None, b"hello").json
    going = broken_off(service, "going.bin")
    listed = beside.json("uploads", "list")
    assert listed["next"] is None
    newest, former = listed["uploads"][:2]
    assert {name: newest[name] for name in going} == going
    assert (former["id"], former["size"], former["state"]) == (done["id"], 5, "finished")
    shown = beside.json("uploads", "show", "--", going["id"])
    assert {name: shown[name] for name in going} == going
    assert [piece["number"] for piece in shown["pieces"]] == [1, None]
    assert shown["pieces"][0]["last"] == shown["chunk_size"] - 1
    assert shown["pieces"][1]["last"] == going["offset"] - 1
    table = beside.run("uploads", "list", "--state", "open").stdout.splitlines()
    assert table[0].split() == ["ID", "State", "Stored", "Length", "Idle", "Key"]
    (line,) = [line for line in table if going["id"] in line]
    assert "going.bin" in line
    assert "20.0 MiB" in line
    lines = dict(line.split(maxsplit=1) for line in beside.run("uploads", "show", "--", going["id"]).stdout.splitlines()
                 if len(line.split()) > 1)  # fmt: skip
    assert lines["Stored"].startswith(f"{going['offset']} B")
    assert lines["Ranges"].strip() == f"0-{going['offset'] - 1}"
    assert lines["Pieces"].strip() == "1 parts of 6.0 MiB, 1 fragments"


def test_cancel(service: Service, beside: Operator, moto: MotoServer) -> None:
    """The client's next word is told that the upload has gone, and the store has nothing of it."""
    going = broken_off(service, "cancelled.bin")
    # The beginning of an ID is enough; the others in this ledger do not share so much.
    said = beside.json("uploads", "cancel", "--", going["id"][:12])
    assert said == {"id": going["id"], "state": "cancelled", "freed": True, "bytes": going["offset"]}
    assert not [key for key in contents(moto) if going["id"] in key or key == "cancelled.bin"]
    assert service.request("GET", f"/uploads/{going['id']}").json["state"] == "cancelled"
    assert service.request("PUT", "/upload/cancelled.bin", {"Content-Range": "bytes */*"}).status == 404
    (line,) = beside.failures("uploads", "cancel", "--", going["id"])
    assert line == f"upload {going['id']} is cancelled: there is nothing to cancel"


@pytest.mark.soak
def test_cancel_while_it_is_written(service: Service, beside: Operator, moto: MotoServer) -> None:
    """Whoever is still sending is told that it has ended, and what came late is freed as well."""
    with Client(service.port) as client:
        client.head("PUT", "/upload/written.bin", {"Content-Length": str(LENGTH)})
        client.send(bytes(7 * MIB))
        going = eventually(
            lambda: [each for each in beside.json("uploads", "list")["uploads"] if each["name"] == "written.bin"]
        )[0]
        ended = beside.run("uploads", "cancel", "--", going["id"])
        assert ended.returncode == 0, ended.stderr
        assert ended.stdout.startswith(f"cancelled {going['id']} (written.bin): ")
        client.send(bytes(LENGTH - 7 * MIB))
        assert client.answer().status in (404, 409, 410)
    eventually(lambda: not [key for key in contents(moto) if going["id"] in key or key == "written.bin"])


@pytest.mark.soak
def test_cancel_that_cannot_free(service: Service, beside: Operator, proxy: FaultyS3, moto: MotoServer) -> None:
    """It is cancelled, why it is not freed is said, and the service frees it later."""
    going = broken_off(service, "stuck.bin")
    proxy.fail("Abort", "503", 0)
    ended = beside.run("uploads", "cancel", "--", going["id"])
    assert ended.returncode == 0
    assert ended.stdout.endswith("not freed yet, the service will try again\n")
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"upload {going['id']} is not freed yet: ServiceUnavailable")
    proxy.mend()
    eventually(lambda: not [key for key in contents(moto) if going["id"] in key or key == "stuck.bin"], seconds=45)


@pytest.mark.soak
def test_a_terminal_is_asked_first(service: Service, beside: Operator) -> None:
    """No is the answer unless somebody says yes."""
    going = broken_off(service, "asked.bin")
    for answer, state in (("\n", "open"), ("y\n", "cancelled")):
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-c", RESUMABLE, "uploads", "cancel", "-c", "app.yaml", "--", going["id"]],
            cwd=beside.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(ours, answer.encode())
        _, said = process.communicate(timeout=60)
        os.close(ours)
        os.close(theirs)
        assert said.startswith(f"Cancel {going['id']} (asked.bin), ")
        assert process.returncode == (0 if state == "cancelled" else 1)
        assert service.request("GET", f"/uploads/{going['id']}").json["state"] == state


NOW = time.time()
HOUR = 3600.0


@pytest.fixture
def ledger(operator: Operator, moto: MotoServer) -> Operator:
    """Somebody with a ledger of five uploads, made an hour apart; two in the same moment."""
    operator.configure(configuration(moto))
    engine = open_engine(f"sqlite:///{operator.directory}/ledger.sqlite3")
    prepare(engine)
    states = [State.OPEN, State.FAILED, State.OPEN, State.CANCELLED, State.OPEN]
    with engine.begin() as connection:
        for number, state in enumerate(states):
            created = NOW - HOUR * max(1, number)
            owner = "alice" if number % 2 else "bob\n\x1b[2J"
            upload = policy("b").new_upload(CreateRequest("tus", f"name {number}", "", 100), f"id{number}-X", created)
            # No owner may be called so any more; one from before may.
            upload = evolve(upload, owner=owner, state=state, updated=created + 60)
            values = {column.name: getattr(upload, column.name) for column in uploads.columns
                      if hasattr(upload, column.name)}  # fmt: skip
            values |= {"generation": number, "state": state.value, "options": {"content_type": None}}
            connection.execute(insert(uploads).values(values))
        for first, end in ((0, 10), (5, 20), (30, 40)):
            connection.execute(insert(pieces).values(upload_id="id2-X", first=first, end=end, etag="e"))
    engine.dispose()
    return operator


def ids(listed: Any) -> list[str]:
    return [upload["id"] for upload in listed["uploads"]]


@pytest.mark.soak
def test_filters(ledger: Operator) -> None:
    assert ids(ledger.json("uploads", "list")) == ["id1-X", "id0-X", "id2-X", "id3-X", "id4-X"]
    assert ids(ledger.json("uploads", "list", "--state", "failed", "--state", "cancelled")) == ["id1-X", "id3-X"]
    assert ids(ledger.json("uploads", "list", "--owner", "alice")) == ["id1-X", "id3-X"]
    assert ids(ledger.json("uploads", "list", "--older-than", "150m")) == ["id3-X", "id4-X"]


@pytest.mark.soak
def test_pages(ledger: Operator) -> None:
    """Nothing is left out or twice, also between uploads of the same moment."""
    seen, last = [], None
    for _ in range(5):
        page = ledger.json("uploads", "list", "--limit", "1", *(("--after", last) if last else ()))
        seen += ids(page)
        last = page["next"]
    assert (seen, last) == (["id1-X", "id0-X", "id2-X", "id3-X", "id4-X"], None)
    assert "add --after id0-X" in ledger.run("uploads", "list", "--limit", "2").stderr


@pytest.mark.soak
def test_what_is_stored_is_counted_once(ledger: Operator) -> None:
    """Pieces that overlap are not counted twice; behind a hole they count, but the offset ends before it."""
    shown = ledger.json("uploads", "show", "id2")
    assert (shown["offset"], shown["stored"]) == (20, [[0, 19], [30, 39]])
    assert "Ranges     0-19, 30-39" in ledger.run("uploads", "show", "id2").stdout
    assert re.search(r" 30 B +100 B .* name 2\n", ledger.run("uploads", "list").stdout)


def test_an_owner_cannot_forge_lines(ledger: Operator) -> None:
    said = ledger.run("uploads", "list").stdout
    assert len(said.splitlines()) == 6
    assert "\x1b" not in said


@pytest.mark.soak
@pytest.mark.parametrize(("wanted", "line"), [("id", "more than one upload begins with 'id'"), ("ID2", "no upload 'ID2'"),
                                              ("", "no upload ''"), ("id2-X2", "no upload 'id2-X2'")])  # fmt: skip
def test_ids_that_are_not_one(ledger: Operator, wanted: str, line: str) -> None:
    assert ledger.failures("uploads", "show", wanted) == [line]


@pytest.mark.soak
def test_a_cancel_is_told(ledger: Operator, moto: MotoServer) -> None:
    """The event is in the ledger for the service to send, if the application wants to hear of it."""
    url = f"sqlite:///{ledger.directory}/ledger.sqlite3"
    for wanted, upload_id in ((["upload.finished"], "id2-X"), (["upload.cancelled"], "id4-X")):
        receiver = {"url": "http://127.0.0.1:9/", "secret": SECRET, "types": wanted}
        ledger.configure(configuration(moto, events=receiver))
        assert ledger.json("uploads", "cancel", upload_id)["state"] == "cancelled"
    engine = open_engine(url)
    with engine.connect() as connection:
        told = [tuple(row) for row in connection.execute(select(events.c.upload_id, events.c.type, events.c.state))]
    engine.dispose()
    assert told == [("id4-X", "upload.cancelled", "due")]


@pytest.mark.soak
def test_no_ledger_here(operator: Operator, moto: MotoServer, tmp_path: Path) -> None:
    """An empty ledger is not made where the service has none; one in memory is nobody else's."""
    operator.configure(configuration(moto))
    (line,) = operator.failures("uploads", "list")
    assert line.startswith("ledger sqlite:///ledger.sqlite3: ledger.sqlite3: no such file in ")
    assert not (tmp_path / "ledger.sqlite3").exists()
    operator.configure(configuration(moto, ledger="sqlite://"))
    (line,) = operator.failures("uploads", "cancel", "x")
    assert line == "ledger sqlite://: is in the memory of the service, and nobody else can read it"


def test_a_wrong_configuration(operator: Operator) -> None:
    operator.configure({"store": {"bucket": "b"}})
    assert operator.failures("uploads", "list") == ["app.yaml: auth: required (auth: open lets everyone upload)"]
