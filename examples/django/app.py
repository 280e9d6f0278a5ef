"""A main application in Django, in one file: it says who may upload, and takes note of what has arrived.

pip install django standardwebhooks
export WEBHOOK_SECRET=whsec_$(openssl rand -base64 32)     # the service needs the same one
python examples/django/app.py runserver 127.0.0.1:8000
"""

from __future__ import annotations

import os
import sys
from typing import Any
from urllib.parse import unquote

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connection, models
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST
from standardwebhooks import Webhook, WebhookVerificationError

# In a project of your own this stands in settings.py, the model in models.py, and the table is made by a migration.
settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DATABASE", "uploads.sqlite3")}
    },
    ROOT_URLCONF=__name__,
)
django.setup()

# Yours: django.contrib.auth, JSON Web Tokens.
TOKENS = {"alice-token": "alice", "bob-token": "bob", "carol-token": "carol"}
MAY_UPLOAD = {"alice", "carol"}

webhook = Webhook(os.environ["WEBHOOK_SECRET"])


class Event(models.Model):
    """An event that has been told."""

    webhook_id = models.CharField(max_length=255, primary_key=True)
    body = models.TextField()

    class Meta:
        app_label = "uploads"
        db_table = "events"


@require_GET
def allow_upload(request: HttpRequest) -> HttpResponse:
    """Say whether the client may do what it asks for, and where its object goes."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ") or request.COOKIES.get("session", "")
    user = TOKENS.get(token)
    if user is None:
        return JsonResponse({"error": "sign in first"}, status=401, headers={"WWW-Authenticate": "Bearer"})
    if user not in MAY_UPLOAD:
        return JsonResponse({"error": "your account cannot upload"}, status=403)
    grant: dict[str, Any] = {"owner": user, "max_size": 10 << 30, "metadata": {"uploaded-by": user}}
    if name := unquote(request.headers.get("X-Upload-Name", "")):
        grant["key"] = f"films/{user}/{name}"
    return JsonResponse(grant)


@csrf_exempt  # it is the service that posts, and it signs
@require_POST
def hear(request: HttpRequest) -> HttpResponse:
    """Store an event, once; only then say so."""
    try:
        webhook.verify(request.body, dict(request.headers))
    except (WebhookVerificationError, ValueError):
        return JsonResponse({"error": "not signed by the upload service, or long ago"}, status=401)
    # The same event may come again, with the same id.
    Event.objects.get_or_create(webhook_id=request.headers["webhook-id"], defaults={"body": request.body.decode()})
    return HttpResponse(status=204)


urlpatterns = [path("allow_upload", allow_upload), path("uploads", hear)]

if __name__ == "__main__":
    if Event._meta.db_table not in connection.introspection.table_names():
        with connection.schema_editor() as editor:
            editor.create_model(Event)
    execute_from_command_line(sys.argv)
