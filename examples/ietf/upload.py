"""Upload a file by the IETF's Resumable Uploads for HTTP, and go on where it broke off, by itself and when it is run again.

python examples/ietf/upload.py film.mp4 http://127.0.0.1:8080/upload/film.mp4 alice-token

Python's own HTTP client takes an interim answer (104) for the final one. So this names no draft's version, which would ask for
such answers, and learns the upload's URL from a request that begins it and brings nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

#: Seconds between two tries, and how many there are without a byte of progress.
PAUSE, TRIES = 2, 10
#: What the service says of an upload that is not there (any more).
GONE = (404, 410)


def ask(method: str, url: str, headers: dict[str, str], body: IO[bytes] | None = None) -> HTTPResponse:
    """Return the answer to one request; its body has been read into `said`."""
    where = urlsplit(url)
    connect = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = connect(where.netloc, timeout=60)
    try:
        connection.request(method, where.path, body, headers)
        answer = connection.getresponse()
        answer.said = answer.read()  # type: ignore[attr-defined]
        return answer
    finally:
        connection.close()


def check(answer: HTTPResponse) -> HTTPResponse:
    """Return the answer, if it is a good one or may be better the next time."""
    if answer.status >= 500 or answer.status in (408, 409):
        raise HTTPException(f"{answer.status}: {answer.said!r}")  # type: ignore[attr-defined]
    if answer.status >= 300:
        sys.exit(f"{answer.status} {answer.said.decode(errors='replace')}")  # type: ignore[attr-defined]
    return answer


def find(url: str, size: int, note: Path, file: list[int], auth: dict[str, str]) -> tuple[str, int]:
    """Return the URL of the file's upload, the one that is noted or a new one, and how many bytes are stored."""
    noted = json.loads(note.read_text()) if note.exists() else {}
    if noted.get("for") == [url, *file]:
        answer = ask("HEAD", noted["upload"], auth)
        if answer.status not in GONE:
            return noted["upload"], int(check(answer).headers["Upload-Offset"])
    headers = {**auth, "Upload-Complete": "?0", "Upload-Length": str(size), "Content-Length": "0"}
    upload = urljoin(url, check(ask("POST", url, headers)).headers["Location"])
    note.write_text(json.dumps({"for": [url, *file], "upload": upload}))
    return upload, 0


def main(path: str, url: str, token: str = "") -> None:
    """Upload the file; print the service's last answer."""
    auth = {"Authorization": f"Bearer {token}"} if token else {}
    note, seen, tries, reached = Path(f"{path}.upload"), os.stat(path), TRIES, 0
    while True:
        try:
            upload, offset = find(url, seen.st_size, note, [seen.st_size, seen.st_mtime_ns], auth)
            print(f"{upload} from byte {offset}", file=sys.stderr, flush=True)
            tries, reached = (TRIES if offset > reached else tries), max(offset, reached)
            with open(path, "rb") as file:
                file.seek(offset)
                more = {
                    "Upload-Offset": str(offset),
                    "Upload-Complete": "?1",
                    "Content-Length": str(seen.st_size - offset),
                }
                answer = check(
                    ask("PATCH", upload, {**auth, **more, "Content-Type": "application/partial-upload"}, file)
                )
        except (OSError, HTTPException) as error:
            tries -= 1
            if not tries:
                sys.exit(str(error))
            time.sleep(PAUSE)
            continue
        note.unlink()
        print(answer.said.decode())  # type: ignore[attr-defined]
        return


if __name__ == "__main__":
    main(*sys.argv[1:])
