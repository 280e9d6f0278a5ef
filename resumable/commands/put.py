"""``resumable put``: upload files, folders or standard input, and go on after whatever broke it off."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click
from twisted.internet.defer import CancelledError

from resumable.client.api import MOST_CONNECTIONS, prepare, upload
from resumable.client.errors import ClientError, Failed, GaveUp
from resumable.client.http import Http
from resumable.client.limiter import Limiter
from resumable.client.state import without_secrets
from resumable.client.targets import STDIN, Target, targets
from resumable.commands.cli_text import examples
from resumable.commands.output import printable
from resumable.commands.put_display import Display
from resumable.commands.put_values import headers as headers_of
from resumable.commands.put_values import patience, rate
from resumable.commands.runner import run

STORED, FAILED, WRONG_USE, GAVE_UP, INTERRUPTED = 0, 1, 2, 3, 130
GO_ON = "interrupted: what was acknowledged is stored; the same command goes on from there"
GO_ON_STREAM = "interrupted: a stream cannot go on later"


@click.command(
    epilog=examples(
        ("resumable put film.mp4 https://up.example.com/", "to /upload/film.mp4; the same command again goes on"),
        ("resumable put film.mp4 https://up.example.com/upload/2026/one.mp4", "under another name"),
        ("resumable put holiday https://up.example.com/upload/photos/", "a folder, to photos/holiday/…"),
        ("resumable put --connections 4 big.iso https://up.example.com/", "over four connections at once"),
        ("resumable put -H 'Authorization: Bearer TOKEN' a.bin b.bin https://up.example.com/", "who you are"),
        ("resumable put --limit-rate 2M - https://up.example.com/upload/dump.tar", "what comes from a pipe"),
    )
)
@click.argument("files", nargs=-1, metavar="FILE…", type=click.Path(allow_dash=True))
@click.argument("url", metavar="URL")
@click.option(
    "--connections",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=1,
    show_default=True,
    help="Bring each file over so many connections at once.",
)
@click.option(
    "--header",
    "-H",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    callback=headers_of,
    help="Goes with each request.",
)
@click.option("--limit-rate", metavar="RATE", callback=rate, help="Bytes a second: 500k, 2M (of 1024), 1000000.")
@click.option(
    "--retry-for",
    metavar="DURATION",
    default="10m",
    show_default=True,
    callback=patience,
    help="Give up after so long without progress: 30s, 10m, 2h, 1d.",
)
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each file on standard output.")
def put(
    files: tuple[str, ...],
    url: str,
    connections: int,
    headers: Mapping[str, str],
    limit_rate: float | None,
    retry_for: float,
    as_json: bool,
) -> None:
    """Upload files, folders or standard input (-), and go on where it stopped.

    A URL that ends with / is a folder: files go below it under their own names, and a folder under its own name with the
    paths in it. http://HOST/ stands for http://HOST/upload/. Otherwise the URL is the one file's; - needs such a URL.

    Links to files are followed. A link to a folder is followed if it is named itself, and left out below another folder.

    An upload that broke off goes on by the same command, also after a crash or a reboot: what is needed for that is kept
    in $XDG_STATE_HOME/resumable, by file, size, time of modification and URL. A file that has changed begins anew.

    Exit status: 0 all is stored; 1 refused or failed; 2 wrong use; 3 gave up; 130 Ctrl-C.
    """
    if not files:
        # A single argument is taken for the URL.
        raise click.UsageError("both are needed, what to upload and where: resumable put FILE… URL")
    try:
        prepare(url, headers)
        wanted = list(targets(files, url))
    except Failed as error:
        raise click.UsageError(printable(error.detail)) from None
    if not wanted:
        click.echo(f"{printable(', '.join(files))}: there is no file in it", err=True)
    batch = _Batch(wanted, headers, connections, limit_rate, retry_for, as_json)
    try:
        status = run(batch.run)
    except click.Abort:
        click.echo(GO_ON_STREAM if files == (STDIN,) else GO_ON, err=True)
        status = INTERRUPTED
    sys.exit(status)


class _Batch:
    """Files that are uploaded one after another."""

    def __init__(
        self,
        wanted: list[Target],
        headers: Mapping[str, str],
        connections: int,
        rate: float | None,
        retry_for: float,
        as_json: bool,
    ) -> None:
        self._wanted = wanted
        self._headers = headers
        self._connections = connections
        self._rate = rate
        self._retry_for = retry_for
        self._json = as_json

    async def run(self, reactor: Any) -> int:
        """Upload them; return the exit status."""
        status = STORED
        display = Display(reactor, self._json)
        http = Http(reactor, self._connections)
        limiter = None if self._rate is None else Limiter(reactor, self._rate)
        left = list(self._wanted)
        try:
            while left:
                one = left[0]
                shown = without_secrets(one.url)
                try:
                    await self._upload(reactor, http, limiter, display, one, shown)
                except GaveUp as error:
                    display.failed(one.file, shown, "gave up", error)
                    # The next file would wait as long for the same server.
                    for other in left[1:]:
                        display.left(other.file, without_secrets(other.url), "gave up", error)
                    if left[1:]:
                        display.say(f"not tried: {len(left) - 1} more")
                    return GAVE_UP if status == STORED else status
                except ClientError as error:
                    display.failed(one.file, shown, "failed", error)
                    status = FAILED
                left.pop(0)
        except CancelledError:
            for other in left:
                display.left(other.file, without_secrets(other.url), "interrupted", Failed("interrupted"))
            raise
        finally:
            display.close()
            await http.close()
        return status

    async def _upload(
        self, reactor: Any, http: Http, limiter: Limiter | None, display: Display, one: Target, shown: str
    ) -> None:
        display.begin(one.file)
        done = await upload(
            stdin() if one.file == STDIN else one.file,
            one.url,
            headers=self._headers,
            connections=self._connections,
            limit_rate=limiter,
            retry_for=self._retry_for,
            progress=display.progress,
            http=http,
            reactor=reactor,
        )
        display.ended(one.file, shown, done.result)


def stdin() -> int:
    """Return standard input's file descriptor.

    :raises Failed: there is none.
    """
    if sys.stdin is None:  # as ``<&-`` leaves it
        raise Failed("standard input is closed")
    return sys.stdin.fileno()
