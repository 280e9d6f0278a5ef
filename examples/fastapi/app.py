"""A main application in FastAPI: it says who may upload, and takes note of what has arrived.

pip install fastapi uvicorn standardwebhooks
export WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)     # the service needs the same one
uvicorn --app-dir examples/fastapi app:app --port 8000
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from standardwebhooks import Webhook, WebhookVerificationError

# Yours: sessions, JSON Web Tokens, a table of users.
TOKENS = {"alice-token": "alice", "bob-token": "bob", "carol-token": "carol"}
MAY_UPLOAD = {"alice", "carol"}

DATABASE = os.environ.get("DATABASE", "uploads.sqlite3")
webhook = Webhook(os.environ["WEBHOOK_SECRET"])
app = FastAPI()

with closing(sqlite3.connect(DATABASE)) as db, db:
    db.execute("CREATE TABLE IF NOT EXISTS events (webhook_id TEXT PRIMARY KEY, body TEXT NOT NULL)")


@app.get("/allow_upload")
async def allow_upload(request: Request) -> Response:
    """Say whether the client may do what it asks for, and where its object goes."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.cookies.get("session", "")
    user = TOKENS.get(token)
    if user is None:
        return JSONResponse({"error": "sign in first"}, 401, {"WWW-Authenticate": "Bearer"})
    if user not in MAY_UPLOAD:
        return JSONResponse({"error": "your account cannot upload"}, 403)
    grant: dict[str, Any] = {"owner": user, "max_size": 10 << 30, "metadata": {"uploaded-by": user}}
    if name := unquote(request.headers.get("X-Upload-Name", "")):
        grant["key"] = f"films/{user}/{name}"
    return JSONResponse(grant)


@app.post("/uploads")
async def hear(request: Request) -> Response:
    """Store an event, once; only then say so."""
    body = await request.body()
    try:
        webhook.verify(body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return JSONResponse({"error": "not signed by the upload service, or long ago"}, 401)
    # In a thread: the database would block all other requests.
    await run_in_threadpool(store, request.headers["webhook-id"], body.decode())
    return Response(status_code=204)


def store(webhook_id: str, body: str) -> None:
    """Store an event. The same one may come again, with the same id."""
    with closing(sqlite3.connect(DATABASE)) as db, db:
        db.execute("INSERT INTO events VALUES (?, ?) ON CONFLICT (webhook_id) DO NOTHING", (webhook_id, body))
