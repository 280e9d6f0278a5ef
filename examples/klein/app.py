"""A main application in Klein, which is Twisted: it says who may upload, and takes note of what has arrived.

pip install klein standardwebhooks
export WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)     # the service needs the same one
python examples/klein/app.py 8000
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from contextlib import closing
from typing import Any
from urllib.parse import unquote

from klein import Klein
from standardwebhooks import Webhook, WebhookVerificationError
from twisted.internet.threads import deferToThread
from twisted.web.iweb import IRequest

# Yours: sessions, JSON Web Tokens, a table of users.
TOKENS = {"alice-token": "alice", "bob-token": "bob", "carol-token": "carol"}
MAY_UPLOAD = {"alice", "carol"}

DATABASE = os.environ.get("DATABASE", "uploads.sqlite3")
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
app = Klein()

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS events (webhook_id TEXT PRIMARY KEY, body TEXT NOT NULL)")


@app.route("/allow_upload", methods=["GET"])
def allow_upload(request: IRequest) -> bytes:
    """Say whether the client may do what it asks for, and where its object goes."""
    cookie = (request.getCookie(b"session") or b"").decode("latin-1")
    user = TOKENS.get((request.getHeader("Authorization") or "").removeprefix("Bearer ") or cookie)
    if user is None:
        request.setHeader("WWW-Authenticate", "Bearer")
        return say(request, 401, {"error": "sign in first"})
    if user not in MAY_UPLOAD:
        return say(request, 403, {"error": "your account cannot upload"})
    grant: dict[str, Any] = {"owner": user, "max_size": 10 << 30, "metadata": {"uploaded-by": user}}
    if name := unquote(request.getHeader("X-Upload-Name") or ""):
        grant["key"] = f"films/{user}/{name}"
    return say(request, 200, grant)


@app.route("/uploads", methods=["POST"])
async def hear(request: IRequest) -> bytes:
    """Store an event, once; only then say so."""
    body = request.content.read()
    headers = {name.decode(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
    try:
        webhook.verify(body, headers)
    except (WebhookVerificationError, ValueError):
        return say(request, 401, {"error": "not signed by the upload service, or long ago"})
    # In a thread: the database would block the reactor.
    await deferToThread(store, request.getHeader("webhook-id"), body.decode())
    request.setResponseCode(204)
    return b""


def say(request: IRequest, status: int, what: dict[str, Any]) -> bytes:
    """Answer with JSON."""
    request.setResponseCode(status)
    request.setHeader("Content-Type", "application/json")
    return json.dumps(what).encode()


def store(webhook_id: str, body: str) -> None:
    """Store an event. The same one may come again, with the same id."""
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute("INSERT INTO events VALUES (?, ?) ON CONFLICT (webhook_id) DO NOTHING", (webhook_id, body))


if __name__ == "__main__":
    app.run("127.0.0.1", int(sys.argv[1]))
