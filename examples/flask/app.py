"""A main application in Flask: it says who may upload, and takes note of what has arrived.

pip install flask standardwebhooks
export WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)     # the service needs the same one
flask --app examples/flask/app.py run --port 5000
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from urllib.parse import unquote

from flask import Flask, request
from flask.typing import ResponseReturnValue
from standardwebhooks import Webhook, WebhookVerificationError

# Yours: sessions, JSON Web Tokens, a table of users.
TOKENS = {"alice-token": "alice", "bob-token": "bob", "carol-token": "carol"}
MAY_UPLOAD = {"alice", "carol"}

DATABASE = os.environ.get("DATABASE", "uploads.sqlite3")
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 1 << 20

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS events (webhook_id TEXT PRIMARY KEY, body TEXT NOT NULL)")


@app.get("/allow_upload")
def allow_upload() -> ResponseReturnValue:
    """Say whether the client may do what it asks for, and where its object goes."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get("session", "")
    user = TOKENS.get(token)
    if user is None:
        return {"error": "sign in first"}, 401, {"WWW-Authenticate": "Bearer"}
    if user not in MAY_UPLOAD:
        return {"error": "your account cannot upload"}, 403
    grant = {"owner": user, "max_size": 10 << 30, "metadata": {"uploaded-by": user}}
    if name := unquote(request.headers.get("X-Upload-Name", "")):
        grant["key"] = f"films/{user}/{name}"
    return grant


@app.post("/uploads")
def hear() -> ResponseReturnValue:
    """Store an event, once; only then say so."""
    body = request.get_data()
    try:
        webhook.verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return {"error": "not signed by the upload service, or long ago"}, 401
    with closing(sqlite3.connect(DATABASE)) as db, db:
        # The same event may come again, with the same id.
        db.execute(
            "INSERT INTO events VALUES (?, ?) ON CONFLICT (webhook_id) DO NOTHING",
            (request.headers["webhook-id"], body.decode()),
        )
    return "", 204
