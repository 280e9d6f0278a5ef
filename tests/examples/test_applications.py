"""The applications in examples/ decide who may upload, and store what they are told, once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
import requests
from standardwebhooks import Webhook

from tests.examples.conftest import Running
from tests.harness import Answer, eventually
from tests.receiver import SECRET

pytestmark = [pytest.mark.process, pytest.mark.soak]

ALICE = {"Authorization": "Bearer alice-token"}
CAROL = {"Authorization": "Bearer carol-token"}
BOB = {"Authorization": "Bearer bob-token"}


def put(running: Running, name: str, headers: Mapping[str, str], body: bytes = b"a film") -> Answer:
    return running.service.request("PUT", f"/upload/{name}", headers, body)


def stored(running: Running) -> dict[str, Any]:
    """The events that the application has stored, by their ids."""
    with closing(sqlite3.connect(running.database)) as db:
        return {webhook_id: json.loads(body) for webhook_id, body in db.execute("SELECT webhook_id, body FROM events")}


def of_upload(running: Running, upload: str) -> list[str]:
    """The ids of the stored events of an upload."""
    return [webhook_id for webhook_id, event in stored(running).items() if event["data"]["id"] == upload]


def signed(webhook_id: str, body: str, *, at: datetime | None = None) -> dict[str, str]:
    """The headers that the service would send with an event."""
    at = at or datetime.now(timezone.utc)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(webhook_id, at, body),
    }


def post(running: Running, headers: Mapping[str, str], body: str) -> int:
    return requests.post(f"{running.url}/uploads", data=body, headers=headers, timeout=20).status_code


def test_an_upload(running: Running) -> None:
    """It is let in, goes where the application says, and is told of; a repeat of the event changes nothing."""
    answer = put(running, "summer%20%C3%A4.mp4", ALICE)
    assert answer.status == 200, answer
    upload = answer.json
    assert (upload["owner"], upload["key"]) == ("alice", "films/alice/summer ä.mp4")
    assert upload["metadata"] == {"uploaded-by": "alice"}
    with urlopen(f"{running.store}/films/alice/summer%20%C3%A4.mp4") as found:
        assert found.read() == b"a film"

    (webhook_id,) = eventually(lambda: of_upload(running, upload["id"]))
    before = stored(running)
    event = before[webhook_id]
    assert (event["type"], event["data"]["key"]) == ("upload.finished", upload["key"])
    body = json.dumps({**event, "type": "something else"})
    assert post(running, signed(webhook_id, body), body) == 204
    assert stored(running) == before


def test_a_cookie(running: Running) -> None:
    answer = put(running, "cookie.mp4", {"Cookie": "session=alice-token"})
    assert (answer.status, answer.json["owner"]) == (200, "alice")


def test_a_client_that_is_not_signed_in(running: Running) -> None:
    for headers in ({}, {"Authorization": "Bearer made-up"}):
        answer = put(running, "stranger.mp4", headers)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json == {"error": "sign in first"}


def test_a_client_that_may_not(running: Running) -> None:
    answer = put(running, "bob.mp4", BOB)
    assert (answer.status, answer.json) == (403, {"error": "your account cannot upload"})


def test_an_upload_that_is_too_large(running: Running) -> None:
    """Refused by the size that it is going to have."""
    size = (10 << 30) + 1
    answer = put(running, "large.mp4", {**ALICE, "Content-Range": f"bytes 0-5/{size}"})
    assert answer.status == 413


def test_an_upload_of_another(running: Running) -> None:
    """Is not there."""
    assert put(running, "mine.mp4", {**ALICE, "Content-Range": "bytes 0-5/100"}).status == 308
    asking = {"Content-Range": "bytes */*"}
    assert put(running, "mine.mp4", {**ALICE, **asking}, b"").headers["range"] == "bytes=0-5"
    assert put(running, "mine.mp4", {**CAROL, **asking}, b"").status == 404


@pytest.mark.parametrize("fault", ["forged", "old", "unsigned", "malformed"])
def test_an_event_that_is_not_the_services(running: Running, fault: str) -> None:
    """Is refused, and not stored."""
    webhook_id, body = f"msg_{uuid4()}", '{"type": "upload.finished"}'
    headers = signed(webhook_id, body)
    if fault == "forged":
        headers["webhook-signature"] = Webhook("whsec_" + "A" * 32).sign(webhook_id, datetime.now(timezone.utc), body)
    elif fault == "old":
        headers = signed(webhook_id, body, at=datetime.now(timezone.utc) - timedelta(hours=1))
    elif fault == "unsigned":
        headers = {}
    else:
        headers["webhook-signature"] = "no comma, no base64"
    assert post(running, headers, body) == 401
    assert webhook_id not in stored(running)


def test_an_event_that_cannot_be_stored(running: Running) -> None:
    """Is not accepted: the service tells it again, and then it is stored."""
    webhook_id, body = f"msg_{uuid4()}", '{"type": "upload.finished", "data": {"id": "x"}}'
    with closing(sqlite3.connect(running.database)) as db:
        db.execute("ALTER TABLE events RENAME TO away")
        assert post(running, signed(webhook_id, body), body) == 500
        db.execute("ALTER TABLE away RENAME TO events")
    assert post(running, signed(webhook_id, body), body) == 204
    assert webhook_id in stored(running)
