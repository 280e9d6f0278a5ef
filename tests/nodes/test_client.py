"""``resumable put`` to two nodes, killed again and again."""

from __future__ import annotations

import hashlib
import random
import subprocess
import time
from pathlib import Path

import pytest

from tests.client.counting import Balancer
from tests.client.test_command import Shell
from tests.faults.proxy import FaultyS3
from tests.harness import Service, eventually

SIZE = 300_000_000
KILLS = 10


@pytest.mark.soak
@pytest.mark.parametrize("connections", [4])
def test_killed_again_and_again(
    nodes: tuple[Service, Service], store: FaultyS3, tmp_path: Path, name: str, connections: int
) -> None:
    """SIGKILL, ten times, and the same command again: the object is right, and no acknowledged byte is brought again."""
    data = b"".join(random.Random(number).randbytes(SIZE // 10) for number in range(10))
    (tmp_path / "big.bin").write_bytes(data)
    shell = Shell(tmp_path, nodes[0])
    with Balancer([node.port for node in nodes]) as balancer:
        command = ("put", "--connections", str(connections), "--limit-rate", "60M", "big.bin")
        url = f"http://127.0.0.1:{balancer.port}/upload/{name}"
        for number in range(1, KILLS + 1):
            with shell.start(*command, url, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                before = balancer.taken
                eventually(lambda before=before: balancer.taken >= before + SIZE // (KILLS + 4))  # type: ignore[misc]
                assert process.poll() is None, f"it has ended before kill {number}"
                process.kill()
        began = time.monotonic()
        status, _, err = shell.put(*command[1:], url)
        assert (status, err) == (0, "")
        assert time.monotonic() - began < 60
    stored = store.boto3().get_object(Bucket=store.bucket, Key=name)["Body"].read()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest()
    assert balancer.again == 0
    # What was on the way at a kill may be lost, in the kernel's buffers and in the balancer's; no more than that.
    assert SIZE <= balancer.taken < SIZE + KILLS * connections * 8_000_000
    assert balancer.used == {node.port for node in nodes}
    assert list((tmp_path / "state" / "resumable").glob("*.json")) == []
