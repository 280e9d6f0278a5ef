"""Clients go from node to node: what works on one works across, at once and to the byte."""

from __future__ import annotations

import threading
import time

from tests.faults.conftest import nothing_left, stored
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import FaultyS3
from tests.harness import Answer, Client, Service, eventually

PostgresNotifier = tuple[Service, Service]


def begin(client: Client, name: str, first: int = 0) -> None:
    headers = {"Content-Range": f"bytes {first}-{len(DATA) - 1}/{len(DATA)}", "Content-Length": str(len(DATA) - first)}
    client.head("PUT", f"/upload/{name}", headers)


def test_the_half_open_client(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """Its connection to A is dead, but nobody has said so: through B it goes on at once, and what A had is stored."""
    a, b = nodes
    sent = CHUNK + 3_000_000
    with Client(a.port) as old, Client(b.port) as new:
        begin(old, name)
        old.send(DATA[:sent])
        time.sleep(0.5)  # so that what was sent has been received; nothing tells a client that
        offset = Uploader(b, name).offset()
        assert offset is not None
        began = time.monotonic()
        begin(new, name, offset)
        assert old.answer().status == 409
        eventually(lambda: Uploader(b, name).offset() == sent)
        new.send(DATA[offset:])
        assert new.answer().status == 200
        assert time.monotonic() - began < 10
    assert stored(store, name) == DATA
    assert store.counts["UploadPart"] == 3
    assert store.counts["Complete"] == 1
    nothing_left(store)


def test_there_and_back(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """Every request goes to the other node, and leaves its connection half open."""
    left: list[Client] = []
    offset = 0
    for turn, end in enumerate([1_000_000, CHUNK + 1, CHUNK + 2_000_000, 2 * CHUNK + 7]):
        client = Client(nodes[turn % 2].port)
        left.append(client)
        begin(client, name, offset)
        client.send(DATA[offset:end])
        time.sleep(0.4)
        offset = Uploader(nodes[turn % 2], name).offset() or 0
    began = time.monotonic()
    Uploader(nodes[0], name).run()
    assert time.monotonic() - began < 15
    for client in left:
        client.socket.close()
    assert stored(store, name) == DATA
    assert store.counts["Complete"] == 1
    nothing_left(store)


def test_cancelled_through_the_other_node(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """The one who writes is told at once, though it holds nothing whose storing would show it."""
    a, b = nodes
    with Client(a.port) as client:
        begin(client, name)
        client.send(DATA[:CHUNK])
        eventually(lambda: (Uploader(b, name).offset() or 0) >= CHUNK)
        assert b.request("DELETE", f"/upload/{name}").status == 204
        assert client.answer().status == 410
    nothing_left(store)


def test_started_anew_through_the_other_node(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """A whole body for the same name: the upload under way on the other node is given up for it."""
    a, b = nodes
    with Client(a.port) as client:
        begin(client, name)
        client.send(DATA[: CHUNK + 5])
        eventually(lambda: (Uploader(b, name).offset() or 0) >= CHUNK)
        assert b.request("PUT", f"/upload/{name}", {}, DATA[:1000]).status == 200
        assert client.answer().status == 410
    assert stored(store, name) == DATA[:1000]
    nothing_left(store)


def test_both_finish(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """Two clients ask for the end at once, through two nodes: one object, and the same answer."""
    a, _ = nodes
    rule = store.fail("Complete", "503", 0)
    assert (Uploader(a, name).send(0, seconds=30) or Answer(0, {}, b"")).status == 503
    assert rule.hit
    store.mend()
    answers: list[Answer | None] = []
    asking = [threading.Thread(target=lambda n=n: answers.append(Uploader(n, name).query())) for n in nodes]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert [answer.status for answer in answers if answer] == [200, 200], answers
    assert answers[0] is not None
    assert answers[1] is not None
    assert answers[0].json == answers[1].json
    assert stored(store, name) == DATA
    nothing_left(store)


def test_the_node_is_killed(nodes: PostgresNotifier, store: FaultyS3, name: str) -> None:
    """A is gone without a word: B does not wait for it."""
    a, b = nodes
    with Client(a.port) as client:
        begin(client, name)
        client.send(DATA[: CHUNK + 5])
        eventually(lambda: (Uploader(b, name).offset() or 0) >= CHUNK)
        a.kill()
    began = time.monotonic()
    Uploader(b, name).run()
    assert time.monotonic() - began < 10
    a.start()
    assert stored(store, name) == DATA
    nothing_left(store)
