"""The same over TLS, from the client and to the store, and what goes wrong with TLS alone."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import test_matrix as plain
from tests.faults import tls
from tests.faults.conftest import nothing_left, settled, stored
from tests.faults.loop import CHUNK, DATA, Uploader
from tests.faults.proxy import ERROR_IN_200, FaultyS3
from tests.harness import Service, eventually
from tests.s3servers import MotoServer
from tests.scraping import Scrape
from tests.service.conftest import configuration

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tls.pem_files(tmp_path_factory.mktemp("pem"))


@pytest.fixture(scope="module")
def shared_store(moto: MotoServer, pems: tuple[Path, Path]) -> Iterator[FaultyS3]:
    with FaultyS3(moto, tls.server_context(pems[0])) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def service(
    shared_store: FaultyS3, pems: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    own, trusted = pems
    config = configuration(shared_store, store={"patience": "3s"})
    with Service(tmp_path_factory.mktemp("secure"), config, tls=own, SSL_CERT_FILE=str(trusted)) as started:
        yield started
        assert "Traceback" not in started.log
        assert "Unhandled" not in started.log


@pytest.fixture(autouse=True)
def nothing_held(nothing_under_way: None, service: Service) -> Iterator[None]:
    """After each test all of the memory for bodies is free again."""
    yield
    eventually(lambda: Scrape.of(service)["resumable_memory_held_bytes"] == 0)


def test_the_calls_of_an_upload(service: Service, store: FaultyS3, name: str) -> None:
    """Over TLS they are the same, on connections that are kept."""
    Uploader(service, name, breaks=plain.BREAKS).run()
    assert stored(store, name) == DATA
    nothing_left(store)
    settled(service)
    counts = {kind: count for kind, count in store.counts.items() if kind not in ("HEAD bucket", "Handshake")}
    assert counts == plain.ALONE
    assert store.counts["Handshake"] <= 4


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        ("Create", "break after"),
        ("UploadPart", "503"),
        ("UploadPart", "break in the body"),
        ("PutFragment", "break before"),
        ("DeleteFragment", "cut short"),
        ("DeleteObjects", "break in the body"),
        ("DeleteObjects", ERROR_IN_200),
        ("ListObjects", ERROR_IN_200),
        ("Complete", "break after"),
        ("Complete", ERROR_IN_200),
        ("HeadObject", "cut short"),
    ],
)
def test_any_call_goes_wrong(service: Service, store: FaultyS3, name: str, kind: str, fault: str) -> None:
    plain.test_any_call_goes_wrong(service, store, name, kind, 1, fault)


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        *(("Complete", fault) for fault in tls.ANSWER),
        *(("UploadPart", fault) for fault in tls.ANSWER[:3]),
        ("PutFragment", "record flipped"),
        ("Create", "no length, cut"),
        ("ListObjects", "no length, goodbye"),
    ],
)
def test_an_answer_that_is_not_whole(service: Service, store: FaultyS3, name: str, kind: str, fault: str) -> None:
    plain.test_any_call_goes_wrong(service, store, name, kind, 1, fault)


@tls.needs_messages
@pytest.mark.parametrize("kind", ["UploadPart", "PutFragment"])
@pytest.mark.parametrize("fault", [*tls.BODY, *tls.CALM])
def test_in_the_middle_of_a_body(service: Service, store: FaultyS3, name: str, kind: str, fault: str) -> None:
    plain.test_any_call_goes_wrong(service, store, name, kind, 1, fault)
    if fault in tls.CALM:
        assert store.counts[kind] == plain.CALLS[kind], "nothing had to be sent again"


@pytest.mark.parametrize("fault", tls.HANDSHAKE)
def test_a_handshake(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """The connections that were kept are gone, and the next one does not come about."""
    rule = store.fail("Handshake", fault)
    store.hang_up()
    Uploader(service, name, breaks=plain.BREAKS).run()
    assert rule.hit
    assert stored(store, name) == DATA
    nothing_left(store)


@pytest.mark.parametrize("fault", ["record cut", "record flipped", "no length, cut", "no length, goodbye"])
def test_reading_back(service: Service, store: FaultyS3, name: str, fault: str) -> None:
    """A fragment of which the answer brings less is not taken for the whole."""
    uploader = Uploader(service, name)
    uploader.send(0, CHUNK + 1_000_000)
    eventually(lambda: uploader.offset() == CHUNK + 1_000_000)
    settled(service)
    plain.read_back(service, store, uploader, fault)


# What clients do


def detached(client: ssl.SSLSocket, end: Callable[[socket.socket], None]) -> None:
    """Go on below TLS."""
    with socket.socket(fileno=client.detach()) as bare:
        bare.settimeout(20)
        end(bare)


def half_a_record(client: ssl.SSLSocket) -> None:
    """Announce a record, send some of it, and end without a close_notify."""

    def end(bare: socket.socket) -> None:
        bare.sendall(b"\x17\x03\x03\x40\x00" + bytes(9000))
        bare.shutdown(socket.SHUT_WR)
        while bare.recv(65536):
            pass

    detached(client, end)


def a_false_record(client: ssl.SSLSocket) -> None:
    """Send a record that was not made by whoever has the keys, as one with a flipped bit."""

    def end(bare: socket.socket) -> None:
        bare.sendall(b"\x17\x03\x03\x40\x00" + bytes(0x4000))
        while bare.recv(65536):
            pass

    detached(client, end)


def goodbye(client: ssl.SSLSocket) -> None:
    """Say close_notify, and wait until the other side has gone away."""
    try:
        client.unwrap().close()
    except OSError:
        client.close()


@pytest.mark.parametrize("end", [half_a_record, a_false_record, goodbye])
@pytest.mark.parametrize("sent", [1, CHUNK - 1, CHUNK + 1_000_003])
def test_a_client_that_ends(
    service: Service, store: FaultyS3, name: str, sent: int, end: Callable[[ssl.SSLSocket], None]
) -> None:
    """All that came before in whole records is stored, and it goes on there; of the rest there is nothing."""
    process = service.pid
    with service.client() as client:
        client.head("PUT", f"/upload/{name}", {"Content-Length": str(len(DATA))})
        client.send(DATA[:sent])
        assert isinstance(client.socket, ssl.SSLSocket)
        end(client.socket)
    uploader = Uploader(service, name)
    eventually(lambda: uploader.offset() == sent)
    uploader.run()
    assert service.pid == process
    assert stored(store, name) == DATA
    nothing_left(store)
