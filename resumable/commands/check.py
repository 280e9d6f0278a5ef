"""``resumable check``: would the service run with this configuration?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from resumable.commands.bucket import check_bucket, check_profile
from resumable.commands.check_urls import check_auth, check_events
from resumable.commands.cli_common import config_option, examples, json_option, one_line
from resumable.commands.finding import CheckStatus, Finding
from resumable.commands.output import say_json
from resumable.commands.runner import run
from resumable.ledger.engine import LedgerError
from resumable.ledger.listing import owner_of, try_out
from resumable.settings import Settings, SettingsError, load_settings

#: Seconds for all checks over the network together.
PATIENCE = 300.0

Tell = Callable[[Finding], None]


@click.command(
    epilog=examples(
        ("resumable check --config config/app.yaml", "exit status 1 if something is wrong"),
        ("resumable check -c config/app.yaml --json", "the same for programs"),
        ("sudo -u resumable resumable check -c config/app.yaml", "with the rights of the service's user"),
        ("resumable check -c config/app.yaml >/dev/null", "only what is wrong, as for a cron job"),
    )
)
@config_option
@json_option
def check(config: str, as_json: bool) -> None:
    """Read the configuration and reach everything it names: ledger, bucket, the application's URLs.

    It prints a line for each: to standard output if all is well, else to standard error, with the meaning and what to
    do. Nothing stays of it. In the bucket one byte is stored, read, listed and deleted under store.fragments_prefix, also
    as a multipart upload. The application is sent a signed test event, and one with a forged signature.

    Run it as the service's user, in its directory and with its environment, for another user may have other rights: sudo
    -u USER resumable check, or under systemd: systemd-run --pipe --uid=USER --working-directory=DIR resumable check.
    """
    findings: list[Finding] = []

    def tell(finding: Finding) -> None:
        findings.append(finding)
        if not as_json:
            click.echo(finding.line, err=finding.verdict is not CheckStatus.OK)

    look_at_everything(config, tell)
    good = all(finding.verdict is not CheckStatus.FAILED for finding in findings)
    if as_json:
        say_json({"ok": good, "checks": [finding.as_json for finding in findings]})
    if not good:
        raise click.exceptions.Exit(1)


def look_at_everything(config: str, tell: Tell) -> None:
    """Report a finding for each thing that a start depends on, as soon as it is known."""
    try:
        settings = load_settings(config)
    except SettingsError as error:
        for problem in error.problems:
            place, _, says = problem.partition(": ")
            tell(Finding("config", place, CheckStatus.FAILED, says))
        return
    tell(Finding("config", config, CheckStatus.OK))
    tell(check_ledger(settings))
    try:
        run(lambda reactor: _check_others(settings, tell, reactor), within=PATIENCE)
    except TimeoutError as error:
        tell(Finding("check", "", CheckStatus.FAILED, str(error)))


def check_ledger(settings: Settings) -> Finding:
    """Open the ledger as the service would, and try to write to it."""
    shown = str(settings.ledger)
    try:
        version = try_out(settings.ledger.reveal())
    except LedgerError as error:
        return Finding("ledger", shown, CheckStatus.FAILED, one_line(str(error)), "look at ledger in the configuration")
    says, owner = f"tables {version}, can be written", owner_of(settings.ledger.reveal())
    if owner is not None:
        advice = f"run this as the service's user: sudo -u {owner} resumable check ..."
        return Finding("ledger", shown, CheckStatus.WARNING, f"{says} by you, but it is {owner}'s", advice)
    return Finding("ledger", shown, CheckStatus.OK, says)


async def _check_others(settings: Settings, tell: Tell, reactor: Any) -> None:
    for finding in check_profile(settings.store):
        tell(finding)
    for finding in await check_bucket(settings.store, reactor):
        tell(finding)
    if settings.auth == "open":
        tell(Finding("auth", "open", CheckStatus.OK, "everyone may upload"))
    else:
        tell(await check_auth(settings.auth.url, settings.auth.timeout, reactor))
    if settings.events is not None:
        tell(await check_events(settings.events, reactor))
