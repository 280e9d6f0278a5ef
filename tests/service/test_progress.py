"""Progress as a whole service tells it, to a receiver of tusd's hooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import requests

from resumable.model import PROGRESS
from tests.harness import Service, eventually
from tests.receiver import Heard, Receiver
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

METADATA = "filename YS5tcDQ=,project_id MQ=="


def tus(service: Service, path: str, method: str, *headers: tuple[str, str], data: bytes = b"") -> requests.Response:
    fields = dict([("Tus-Resumable", "1.0.0"), *headers])
    return requests.request(method, service.url + path, headers=fields, data=data, timeout=20)


def hook(heard: Heard) -> tuple[str, dict[str, Any]]:
    return heard.body["Type"], heard.body["Event"]["Upload"]


def hooks(receiver: Receiver, path: str) -> dict[str, dict[str, Any]]:
    """The upload in each kind of hook that was heard of it, the last of a kind."""
    return {kind: upload for kind, upload in map(hook, receiver.heard) if path.endswith(upload["ID"])}


def test_as_a_service_with_receivers_of_tusd(tmp_path: Path, s3: MotoServer) -> None:
    """From the configuration to the wire: post-create, post-receive while it goes on, and the stop that a hook asks for."""
    types = ["upload.created", PROGRESS, "upload.finished", "upload.cancelled"]
    with Receiver(secret=None) as receiver:
        events = {"url": receiver.url, "format": "tusd", "types": types}
        with Service(tmp_path, configuration(s3, events=events)) as service:

            def create() -> str:
                made = tus(service, "/files/", "POST", ("Upload-Length", "9"), ("Upload-Metadata", METADATA))
                return "/files/" + made.headers["Location"].rpartition("/")[2]

            path = create()
            patched = ("Content-Type", "application/offset+octet-stream")
            assert tus(service, path, "PATCH", ("Upload-Offset", "0"), patched, data=b"12345").status_code == 204
            by_kind = eventually(
                lambda: (heard := hooks(receiver, path)).keys() == {"post-create", "post-receive"} and heard
            )
            told = by_kind["post-receive"]
            assert (told["Offset"], told["Size"], told["ID"]) == (5, 9, path.rpartition("/")[2])
            assert told["MetaData"] == by_kind["post-create"]["MetaData"] == {"filename": "a.mp4", "project_id": "1"}
            other = create()
            stop = b'{"StopUpload": true, "HTTPResponse": {"Body": "enough"}}'
            receiver.answer = lambda heard: (200, {}, stop if other.endswith(hook(heard)[1]["ID"]) else b"")
            tus(service, other, "PATCH", ("Upload-Offset", "0"), patched, data=b"12345")
            eventually(lambda: "post-terminate" in hooks(receiver, other))
            gone = tus(service, other, "PATCH", ("Upload-Offset", "5"), patched, data=b"6789")
            assert (gone.status_code, gone.text) == (410, "enough\n")
            assert tus(service, path, "PATCH", ("Upload-Offset", "5"), patched, data=b"6789").status_code == 204
            eventually(lambda: "post-finish" in hooks(receiver, path))
            shown = requests.get(service.url + "/metrics", timeout=5).text
            counted = re.findall(r'deliveries_total\{outcome="(\w+)",type="upload.progress"\} (\d+)', shown)
            assert [(outcome, int(number) >= 2) for outcome, number in counted] == [("delivered", True)]
            assert "Traceback" not in service.log
