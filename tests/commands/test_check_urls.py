"""The trial of the URL for events: one event that is signed, and one that is forged."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from resumable.callbacks.webhooks import TEST
from resumable.commands.check_urls import check_events, judge_events
from resumable.commands.finding import CheckStatus
from resumable.settings import EventSettings, Secret
from tests.receiver import SECRET, Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        started.refuses_forged = True
        yield started


def settings(receiver: Receiver, secret: str = SECRET) -> EventSettings:
    return EventSettings(url=f"{receiver.url}?token=hidden", secret=Secret(secret), timeout=5.0)


@ensureDeferred
async def test_a_receiver_that_checks_signatures(receiver: Receiver) -> None:
    """It gets one event, whose type it may ignore; a token in the query is not shown."""
    finding = await check_events(settings(receiver), reactor)
    assert (finding.kind, finding.name, finding.verdict) == ("events", receiver.url, CheckStatus.OK)
    assert finding.says == "answered 204 No Content to a signed test event, and refuses a forged one with 401"
    [heard] = receiver.heard
    assert heard.type == TEST
    assert heard.id.startswith("msg_test_")


@ensureDeferred
async def test_a_receiver_with_another_secret(receiver: Receiver) -> None:
    finding = await check_events(settings(receiver, "whsec_" + "b3RoZXIgc2VjcmV0IG90aGVyIHNlY3JldA=="), reactor)
    assert finding.verdict is CheckStatus.FAILED
    assert "answered 401" in finding.says
    assert "events.secret" in finding.advice


@ensureDeferred
async def test_a_receiver_that_takes_everything(receiver: Receiver) -> None:
    """It works, and whoever reaches it can tell it of uploads that there never were."""
    receiver.refuses_forged = False
    finding = await check_events(settings(receiver), reactor)
    assert finding.verdict is CheckStatus.WARNING
    assert len(receiver.wrong) == 1


@ensureDeferred
async def test_a_receiver_that_breaks_off(receiver: Receiver) -> None:
    receiver.answer = lambda heard: None
    finding = await check_events(settings(receiver), reactor)
    assert finding.verdict is CheckStatus.FAILED
    assert finding.says.startswith("cannot be reached: ")


@pytest.mark.parametrize("status", [301, 308, 400, 401, 403, 404, 405, 410, 429, 500, 501, 503])
def test_nothing_but_a_2xx_is_well(status: int) -> None:
    """The service would try every event again, or drop it. That is no success, whatever the status."""
    finding = judge_events("http://a/", status, None)
    assert finding.verdict is CheckStatus.FAILED
    assert f"answered {status}" in finding.says
    assert finding.advice


@pytest.mark.parametrize(
    ("forged", "verdict"), [(204, CheckStatus.WARNING), (401, CheckStatus.OK), (500, CheckStatus.OK)]
)
def test_what_is_said_to_a_forged_event(forged: int, verdict: CheckStatus) -> None:
    assert judge_events("http://a/", 200, forged).verdict is verdict
