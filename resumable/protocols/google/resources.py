"""Finished uploads as the APIs of Google show them. Pure."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape

from resumable.model import Upload
from resumable.protocols.google.paths import Family
from resumable.protocols.google_object import object_of
from resumable.protocols.response import Response
from resumable.timestamps import rfc3339


def object_resource(upload: Upload, base: str) -> dict[str, Any]:
    """Return the object as Cloud Storage's JSON API shows it.

    :param base: of URLs that are handed out.
    """
    done = rfc3339(upload.finished or upload.updated, "microseconds")
    return {
        **object_of(upload, upload.bucket),
        "selfLink": f"{base}/storage/v1/b/{quote(upload.bucket, safe='')}/o/{quote(upload.name, safe='')}",
        "timeCreated": rfc3339(upload.created, "microseconds"),
        "updated": done,
        "timeFinalized": done,
    }


def bucket_resource(bucket: str, base: str) -> dict[str, Any]:
    """Return a bucket as Cloud Storage's JSON API shows it, as far as this service knows it."""
    return {
        "kind": "storage#bucket",
        "id": bucket,
        "selfLink": f"{base}/storage/v1/b/{quote(bucket, safe='')}",
        "name": bucket,
        "metageneration": "1",
        "storageClass": "STANDARD",
    }


def render_finished(upload: Upload, family: Family, base: str) -> Response:
    """Return the answer to the last byte, as clients of the API expect it."""
    if family == "gdata":
        return _entry(upload)
    if family == "youtube":
        return _json(_video(upload))
    return _json(_file(upload) if family == "drive" else object_resource(upload, base))


def _video(upload: Upload) -> dict[str, Any]:
    """Return the upload as YouTube's API 3 shows a video."""
    published = rfc3339(upload.finished or upload.updated)
    return {
        "kind": "youtube#video",
        "etag": upload.etag,
        "id": upload.id,
        "snippet": {"title": upload.name, "publishedAt": published},
        "status": {"uploadStatus": "uploaded"},
        "fileDetails": {"fileName": upload.name, "fileSize": str(upload.length or 0)},
    }


def _file(upload: Upload) -> dict[str, Any]:
    """Return the upload as Drive shows a file: the fields of API 3, and those that API 2 calls otherwise."""
    made, done, size = rfc3339(upload.created), rfc3339(upload.finished or upload.updated), str(upload.length or 0)
    return {
        "kind": "drive#file",
        "id": upload.id,
        "name": upload.name,
        "title": upload.name,
        "mimeType": upload.options.content_type or "application/octet-stream",
        "size": size,
        "fileSize": size,
        "createdTime": made,
        "modifiedTime": done,
        "createdDate": made,
        "modifiedDate": done,
    }


def _entry(upload: Upload) -> Response:
    """Return the upload as YouTube's API 2 shows a video: Atom (RFC 4287)."""
    entry = (
        "<?xml version='1.0' encoding='UTF-8'?>\n"
        "<entry xmlns='http://www.w3.org/2005/Atom'>"
        f"<id>tag:youtube.com,2008:video:{escape(upload.id)}</id>"
        f"<published>{rfc3339(upload.created)}</published>"
        f"<updated>{rfc3339(upload.finished or upload.updated)}</updated>"
        f"<title>{escape(upload.name)}</title></entry>\n"
    )
    return Response(201, entry.encode(), {"Content-Type": "application/atom+xml; charset=UTF-8"})


def _json(shown: dict[str, Any]) -> Response:
    body = json.dumps(shown, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    return Response(200, body, {"Content-Type": "application/json; charset=UTF-8"})
