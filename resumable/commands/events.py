"""``resumable events``: see which events the application was told of and which not yet, tell it again, and try it out."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from resumable.commands.check_urls import check_events
from resumable.commands.cli_common import Failed, config_option, examples, guarded, json_option, read_settings
from resumable.commands.context import open_database
from resumable.commands.finding import CheckStatus
from resumable.commands.output import age, say_json, say_table
from resumable.commands.runner import run
from resumable.ledger.queue import DEAD, DELIVERED, DUE, EventQueue, Queued
from resumable.settings import Settings
from resumable.timestamps import rfc3339
from resumable.uploads.events import REQUEST_ID

T = TypeVar("T")

#: Seconds that a command may take.
WITHIN = 120.0
COLUMNS = ("ID", "Type", "Upload", "State", ">Tries", ">Age", "Problem")


@click.group(
    epilog=examples(
        ("resumable events list --state dead", "what the application could not be told"),
        ("resumable events replay msg_5a83f0c1", "tell it once more"),
        ("resumable events test", "does it take events, and check their signatures?"),
    )
)
def events() -> None:
    """See what the application was told of, tell it again, and try it out."""


@events.command(
    "list",
    epilog=examples(
        ("resumable events list --state due --state dead", "what the application does not know"),
        ("resumable events list --upload q8ZkVw0fJtYxN2bL4mRcAg", "the events of one upload"),
        ("resumable events list --after msg_5a83f0c1", "the next page"),
        ("resumable events list --json", "for programs, with the data of each event"),
    ),
)
@config_option
@json_option
@click.option("--state", "states", multiple=True, type=click.Choice([DUE, DELIVERED, DEAD]), help="May be repeated.")
@click.option("--upload", metavar="ID", help="Only this upload's.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@click.option("--after", metavar="ID", help="Go on after this event, the last of the page before.")
@guarded
def list_events(
    config: str, as_json: bool, states: tuple[str, ...], upload: str | None, limit: int, after: str | None
) -> None:
    """List events, the newest first."""

    async def work(queue: EventQueue) -> list[Queued]:
        last = None if after is None else await _known(queue, after)
        before = None if last is None else last.seq
        # One more than shown tells whether there is a next page.
        return await queue.list(states=states, upload_id=upload, most=limit + 1, before=before)

    found = _with_queue(read_settings(config), work)
    shown = found[:limit]
    following = shown[-1].event.id if len(found) > limit else None
    if as_json:
        say_json({"events": [_as_json(queued) for queued in shown], "next": following})
        return
    now = time.time()
    say_table(COLUMNS, (_row(queued, now) for queued in shown))
    if following is not None:
        click.echo(f"There are more: add --after {following}", err=True)


@events.command(
    epilog=examples(
        ("resumable events replay msg_5a83f0c1", "one of them"),
        ("resumable events replay --dead", "all that were given up"),
    )
)
@click.argument("id", required=False)
@config_option
@json_option
@click.option("--dead", is_flag=True, help="All that were given up, in place of one ID.")
@guarded
def replay(id: str | None, config: str, as_json: bool, dead: bool) -> None:
    """Tell the application of the event ID again, whatever its state. The running service does so within seconds."""
    if dead == (id is not None):
        raise click.UsageError("give the ID of an event, or --dead")

    async def work(queue: EventQueue) -> list[Queued]:
        if id is not None:
            await _known(queue, id)
            wanted = [id]
        else:
            # The oldest first, as they happened.
            wanted = [queued.event.id for queued in reversed(await queue.list(states=[DEAD], most=1_000_000))]
        replayed = [await queue.replay(one, now=time.time()) for one in wanted]
        return [queued for queued in replayed if queued is not None]

    settings = read_settings(config)
    if settings.events is None:
        raise Failed(f"{config}: events: there is no such section, so nobody is told of events")
    replayed = _with_queue(settings, work)
    if as_json:
        say_json({"replayed": [queued.event.id for queued in replayed]})
    for queued in () if as_json else replayed:
        click.echo(f"{queued.event.id} ({queued.event.type} of {queued.event.upload_id}) will be told again")
    if not replayed and not as_json:
        click.echo("nothing was given up")


@events.command(
    epilog=examples(
        ("resumable events test", "does the application take events, and check their signatures?"),
        ("resumable events test --json", "the same for programs"),
    )
)
@config_option
@json_option
@guarded
def test(config: str, as_json: bool) -> None:
    """Send the application a signed test event, and one with a forged signature.

    The event has the type resumable.test and is about no upload; nothing is noted of it. The application has to answer 2xx
    to the signed one, as to all types that it does not know, and 4xx to the forged one.
    """
    settings = read_settings(config)
    section = settings.events
    if section is None:
        raise Failed(f"{config}: events: there is no such section, so nobody is told of events")
    finding = run(lambda reactor: check_events(section, reactor), within=WITHIN)
    if as_json:
        say_json(finding.as_json)
    else:
        click.echo(finding.line, err=finding.verdict is not CheckStatus.OK)
    if finding.verdict is CheckStatus.FAILED:
        raise click.exceptions.Exit(1)


def _with_queue(settings: Settings, work: Callable[[EventQueue], Awaitable[T]]) -> T:
    async def begin(reactor: Any) -> T:
        async with open_database(settings, reactor) as database:
            return await work(EventQueue(database))

    return run(begin, within=WITHIN)


async def _known(queue: EventQueue, event_id: str) -> Queued:
    queued = await queue.get(event_id)
    if queued is None:
        raise Failed(f"no event has the ID {event_id!r}")
    return queued


def _row(queued: Queued, now: float) -> tuple[str, ...]:
    event = queued.event
    state = queued.state
    if state == DUE and queued.due > now:
        state = f"{DUE} in {age(queued.due - now)}"
    columns = (event.id, event.type, event.upload_id, state, str(queued.tries), age(now - event.created))
    return (*columns, queued.problem or "")


def _as_json(queued: Queued) -> dict[str, Any]:
    event = queued.event
    return {
        "id": event.id,
        "type": event.type,
        "upload": event.upload_id,
        "state": queued.state,
        "tries": queued.tries,
        "created": rfc3339(event.created),
        "due": rfc3339(queued.due) if queued.state == DUE else None,
        "ended": None if queued.ended is None else rfc3339(queued.ended),
        "problem": queued.problem,
        "request": event.data.get(REQUEST_ID),
        "data": {name: value for name, value in event.data.items() if name != REQUEST_ID},
    }
