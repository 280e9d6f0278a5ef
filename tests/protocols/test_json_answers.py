"""Every JSON that a client is answered ends in a newline, so that a terminal's next line begins at its beginning."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pytest_twisted import ensureDeferred

from tests.protocols.harness import memory_service

FORM = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.bin"\r\n\r\nabc\r\n'
FORM_TYPE = "Content-Type: multipart/form-data; boundary=b"
JSON_TYPE = "Content-Type: application/json"

#: Method, target, header lines, body, and the status of the answer: results and refusals of each protocol.
REQUESTS: Sequence[tuple[str, str, Sequence[str], bytes | None, int]] = [
    ("PUT", "/upload/a.bin", (), b"abc", 200),
    ("GET", "/upload/a.bin", (), None, 200),
    ("GET", "/upload/none.bin", (), None, 404),
    ("PUT", "/upload/a.bin", ("Content-Range: bytes 9-2/3",), b"abc", 400),
    ("GET", "/nowhere", (), None, 404),
    ("PATCH", "/uploads/none", (), b"", 405),
    ("POST", "/uploads", (JSON_TYPE,), b'{"name": "b.bin", "length": 3}', 201),
    ("POST", "/uploads", (JSON_TYPE,), b"{", 400),
    ("POST", "/upload", (FORM_TYPE,), FORM + b"--b--\r\n", 200),
    ("POST", "/upload", (FORM_TYPE,), FORM + FORM.replace(b"a.bin", b"c.bin") + b"--b--\r\n", 200),
    # The first file is stored, the second has no end: a problem that lists what is stored all the same.
    ("POST", "/upload", (FORM_TYPE,), FORM + b"--b\r\nnonsense", 400),
    ("POST", "/upload/storage/v1/b/bucket/o?uploadType=media&name=g", (), b"abc", 200),
    ("POST", "/upload/storage/v1/b/bucket/o?uploadType=nonsense&name=g", (), b"abc", 400),
    ("GET", "/storage/v1/b/bucket/o/none", (), None, 404),
]


@ensureDeferred
async def test_every_json_ends_in_a_newline() -> None:
    without, kinds = [], set()
    async with memory_service() as service:
        for method, target, headers, body, status in REQUESTS:
            answer = await service.ask(method, target, headers, body)
            said = f"{method} {target}: {answer.status} {answer.body!r}"
            assert answer.status == status, said
            kind = answer.header("content-type") or ""
            if "json" in kind:
                kinds.add(kind)
                json.loads(answer.body)
                if not answer.body.endswith(b"}\n"):
                    without.append(said)
    assert without == []
    assert kinds >= {"application/json", "application/problem+json", "application/json; charset=UTF-8"}
