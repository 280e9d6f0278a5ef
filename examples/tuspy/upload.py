"""Upload a file with tuspy, and go on where it broke off, by itself and when it is run again.

pip install tuspy
python examples/tuspy/upload.py film.mp4 http://127.0.0.1:8080/files/ alice-token
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError
from tusclient.uploader import Uploader

#: Bytes of a request. After a break nothing of one is sent again but what had not arrived.
CHUNK = 64 << 20
#: What the service says of an upload that is not there (any more).
GONE = (404, 410)


def begin(client: TusClient, path: str, note: Path) -> Uploader:
    """Return the upload of a file: the one that is noted, or a new one."""
    seen = os.stat(path)
    # tuspy's own storage knows a file by its size and first 64 KiB alone, which two files may have in common.
    file = {"endpoint": client.url, "size": seen.st_size, "modified": seen.st_mtime_ns}
    options = {
        "chunk_size": CHUNK,
        "metadata": {"filename": os.path.basename(path)},
        "retries": 10,
        "retry_delay": 5,
    }
    if note.exists():
        noted = json.loads(note.read_text())
        if noted["file"] == file:
            try:
                return client.uploader(path, url=noted["url"], **options)
            except TusCommunicationError as error:
                if error.status_code not in GONE:
                    raise
    uploader = client.uploader(path, **options)
    uploader.set_url(uploader.create_url())
    note.write_text(json.dumps({"file": file, "url": uploader.url}))
    return uploader


def main(path: str, endpoint: str, token: str = "") -> None:
    """Upload the file; print its URL."""
    client = TusClient(endpoint, headers={"Authorization": f"Bearer {token}"} if token else {})
    note = Path(f"{path}.upload")
    uploader = begin(client, path, note)
    print(f"{uploader.url} from byte {uploader.offset}", flush=True)
    uploader.upload()
    note.unlink()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TusCommunicationError as error:
        sys.exit(f"{error} {(error.response_content or b'').decode(errors='replace')}")
