"""``resumable clean``: clean up now as the service does regularly, or only show what would be removed."""

from __future__ import annotations

from typing import Any

import click

from resumable.commands.cli_common import Failed, config_option, examples, guarded, json_option, read_settings
from resumable.commands.context import open_uploads
from resumable.commands.output import say_json, say_table
from resumable.commands.runner import run
from resumable.upkeep.janitor import Removal

#: Seconds that the command may take.
WITHIN = 6 * 3600.0
KINDS = {
    "upload": "expired upload",
    "multipart": "orphaned multipart upload",
    "fragment": "orphaned fragment",
    "row": "rows",
}
COLUMNS = ("What", "Which", ">Count", "Why")


@click.command(
    epilog=examples(
        ("resumable clean --dry-run", "what would be removed"),
        ("resumable clean", "end stale uploads and remove orphans, now"),
        ("resumable clean --dry-run --json", "the same for programs"),
    )
)
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only show what would be removed.")
@guarded
def clean(config: str, as_json: bool, dry_run: bool) -> None:
    """End uploads untouched for `cleanup.after`, remove orphans from the store, and forget what ended long ago.

    The service does this by itself, every `cleanup.every`.
    """
    settings = read_settings(config)
    if settings.store.kind == "embedded":
        raise Failed("store: the embedded one is gone when the service ends, and is for the service alone")

    async def work(reactor: Any) -> tuple[list[Removal], dict[str, str]]:
        async with open_uploads(settings, reactor) as (uploads, store, make):
            janitor = make.janitor(uploads, store)
            return [removal async for removal in janitor.clean(dry_run=dry_run)], janitor.not_cleaned

    removals, failed = run(work, within=WITHIN)
    if as_json:
        shown = [{"kind": r.kind, "what": r.what, "count": r.count, "why": r.why} for r in removals]
        say_json({"dry_run": dry_run, "removed": shown, "not_cleaned": failed})
    elif removals:
        say_table(COLUMNS, ((KINDS[r.kind], r.what, str(r.count), r.why) for r in removals))
        if dry_run:
            click.echo("Nothing was removed: this was a dry run.", err=True)
    elif not failed:
        click.echo("There is nothing to clean up.")
    if failed:
        # (Why not is in the log, which goes to standard error.)
        raise Failed(f"could not clean all: {', '.join(failed)}")
