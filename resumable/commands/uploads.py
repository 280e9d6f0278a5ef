"""``resumable uploads``: see what is under way, and end it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable

import click

from resumable.assembly import make_policy
from resumable.commands import views
from resumable.commands.cli_common import (
    Failed,
    config_option,
    duration,
    examples,
    guarded,
    json_option,
    read_settings,
)
from resumable.commands.context import cancel as cancel_as_the_service_does
from resumable.commands.context import open_listing
from resumable.commands.output import printable, say_fields, say_json, say_table, size
from resumable.commands.runner import run
from resumable.ledger.listing import Filter
from resumable.model import Piece, State, Upload
from resumable.settings import Settings
from resumable.stores.port import StoreLimits
from resumable.uploads.coverage import Coverage
from resumable.uploads.result import Report

#: Seconds that a cancel may take beyond twice the patience of the store's settings.
CANCEL = 60.0


@click.group(
    epilog=examples(
        ("resumable uploads list --state open", "what is under way"),
        ("resumable uploads show q8Zk", "one of them; the beginning of its ID is enough"),
        ("resumable uploads cancel q8Zk", "end it and free what is stored of it"),
    )
)
def uploads() -> None:
    """See what is under way, and end it.

    The beginning of an ID is enough, if no other begins so. An ID that begins with - goes behind --.
    """


@uploads.command(
    "list",
    epilog=examples(
        ("resumable uploads list --state open --older-than 2d", "those that nobody goes on with"),
        ("resumable uploads list --owner alice --limit 10", "alice's last ten"),
        ("resumable uploads list --after q8Zk", "the next page"),
        ("resumable uploads list --state failed --state expired --json", "for programs"),
    ),
)
@config_option
@json_option
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in State]), help="May be repeated."
)
@click.option("--owner", help="Only this owner's.")
@click.option(
    "--older-than", metavar="DURATION", callback=duration, help="Untouched for at least this long: 30m, 12h, 7d."
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("--after", metavar="ID", help="Go on after this upload, the last of the page before.")
@guarded
def list_uploads(
    config: str,
    as_json: bool,
    states: tuple[str, ...],
    owner: str | None,
    older_than: float | None,
    limit: int,
    after: str | None,
) -> None:
    """List uploads, the newest first."""
    now = time.time()
    since = None if older_than is None else now - older_than
    wanted = Filter([State(state) for state in states], owner, since)
    settings = read_settings(config)
    with open_listing(settings) as listing:
        last = None if after is None else listing.upload(after)
        # One more than shown tells whether there is a next page.
        found = listing.uploads(wanted, limit=limit + 1, after=last)
        shown = found[:limit]
        pieces = listing.pieces(upload.id for upload in shown if upload.state is not State.FINISHED)
        reports = [_report(settings, upload, pieces.get(upload.id, [])) for upload in shown]
    following = shown[-1].id if len(found) > limit else None
    if as_json:
        say_json({"uploads": [views.as_json(report) for report in reports], "next": following})
        return
    say_table(views.COLUMNS, (views.row(report, now) for report in reports))
    if following is not None:
        click.echo(f"There are more: add --after {following}", err=True)


@uploads.command(
    epilog=examples(
        ("resumable uploads show q8Zk", "how far it is, and where its bytes are"),
        ("resumable uploads show q8Zk --json", "the same for programs, with every piece"),
    )
)
@click.argument("id")
@config_option
@json_option
@guarded
def show(id: str, config: str, as_json: bool) -> None:
    """Show the upload ID: its state, what is stored of it and where."""
    settings = read_settings(config)
    with open_listing(settings) as listing:
        upload = listing.upload(id)
        pieces = listing.pieces([upload.id])[upload.id]
    report = _report(settings, upload, pieces)
    if as_json:
        say_json(views.as_json_with_pieces(report, pieces))
    else:
        scheme = "gs" if settings.store.kind == "gcs" else "s3"
        say_fields(views.details(report, pieces, time.time(), scheme=scheme))


@uploads.command(
    epilog=examples(
        ("resumable uploads cancel q8Zk", "asks first, in a terminal"),
        ("resumable uploads cancel q8Zk --yes --json", "asks nothing; for programs"),
    )
)
@click.argument("id")
@config_option
@json_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask first.")
@guarded
def cancel(id: str, config: str, as_json: bool, yes: bool) -> None:
    """Cancel the upload ID and free what the store has of it.

    This is the same as a cancel by its client: whoever is still sending is told that it has ended.
    """
    settings = read_settings(config)
    if settings.store.kind == "embedded":
        raise Failed("store: the embedded one is gone when the service ends, and is for the service alone")
    with open_listing(settings) as listing:
        upload = listing.upload(id)
        if not upload.live:
            raise Failed(f"upload {upload.id} is {upload.state.value}: there is nothing to cancel")
        stored = Coverage.of(listing.pieces([upload.id])[upload.id]).size
        if not yes and sys.stdin.isatty():
            click.confirm(f"Cancel {_named(upload)}, {size(stored)} stored?", abort=True, err=True)
        run(
            lambda reactor: cancel_as_the_service_does(settings, upload, reactor),
            within=settings.store.patience * 2 + CANCEL,
        )
        _tell(listing.upload(upload.id), stored, as_json)


def _tell(upload: Upload, stored: int, as_json: bool) -> None:
    """Print what became of the upload.

    :raises Failed: it ended in another way before it was cancelled.
    """
    if upload.state is not State.CANCELLED:
        raise Failed(f"upload {upload.id} is {upload.state.value}: it ended before it could be cancelled")
    freed = upload.multipart_id is None and not upload.fragmented
    if as_json:
        say_json({"id": upload.id, "state": upload.state.value, "freed": freed, "bytes": stored})
    elif freed:
        click.echo(f"cancelled {_named(upload)}: {size(stored)} freed")
    else:
        click.echo(f"cancelled {_named(upload)}: {size(stored)} not freed yet, the service will try again")


def _named(upload: Upload) -> str:
    return printable(f"{upload.id} ({upload.owner + '/' if upload.owner else ''}{upload.name})")


def _report(settings: Settings, upload: Upload, pieces: Iterable[Piece]) -> Report:
    if upload.state is State.FINISHED:
        return Report.of_finished(upload)
    return Report(upload, Coverage.of(pieces), make_policy(settings, StoreLimits()).expires(upload))
