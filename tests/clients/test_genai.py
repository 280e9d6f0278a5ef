"""google-genai, unchanged, against the service as it runs: it uploads a file in pieces of 8 MiB."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from typing import Any

import pytest

from tests.clients.conftest import stored
from tests.faults.proxy import FaultyS3
from tests.harness import Service

#: It wants Python 3.11.
genai: Any = pytest.importorskip("google.genai")

pytestmark = pytest.mark.process

DATA = random.Random(13).randbytes((17 << 20) + 345_678)


def upload(service: Service, data: bytes, name: str, answered: Callable[[Any], None] = lambda answer: None) -> Any:
    """:param answered: sees each answer."""
    options = {
        "base_url": f"http://127.0.0.1:{service.port}",
        "client_args": {"event_hooks": {"response": [answered]}},
    }
    client = genai.Client(api_key="key", http_options=options)
    config = genai.types.UploadFileConfig(display_name=name, mime_type="video/mp4")
    return client.files.upload(file=io.BytesIO(data), config=config)


@pytest.mark.parametrize("size", [0, 5, 8 << 20, len(DATA)])
def test_sizes(service: Service, store: FaultyS3, size: int) -> None:
    file = upload(service, DATA[:size], f"genai-{size}")
    assert (file.size_bytes, file.mime_type, file.display_name) == (size, "video/mp4", f"genai-{size}")
    assert file.state == genai.types.FileState.ACTIVE
    assert stored(store, f"genai-{size}") == DATA[:size]


def test_a_store_that_is_busy(service: Service, store: FaultyS3) -> None:
    """A piece that could not be stored is sent again."""
    seen: list[int] = []

    def answered(answer: Any) -> None:
        seen.append(answer.status_code)
        if answer.status_code == 503:
            store.mend()

    store.fail("UploadPart", "503", 0)
    assert upload(service, DATA, "genai-busy", answered).size_bytes == len(DATA)
    assert seen.count(503) == 1
    assert stored(store, "genai-busy") == DATA


def test_what_is_refused(service: Service, store: FaultyS3) -> None:
    with pytest.raises(genai.errors.ClientError) as caught:
        upload(service, DATA[:5], "..")
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
