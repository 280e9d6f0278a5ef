"""Telling of one event over a real socket: in tusd's format a hook that is waited for is followed by the other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from attrs import evolve
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from resumable.callbacks.webhooks import NotDelivered, Webhooks
from resumable.model import Event, State, Upload
from resumable.uploads.events import event_of
from tests.receiver import SECRET, Heard, Receiver, Reply

UPLOAD = Upload("u1", "put", "alice", "n", "bucket", "alice/n", 5, 16, created=1.0, updated=1.0)


def event(state: State = State.FINISHED) -> Event:
    made = event_of(evolve(UPLOAD, state=state))
    assert made is not None
    return made


def kinds(receiver: Receiver) -> list[str]:
    return [heard.body["Type"] for heard in receiver.heard]


@asynccontextmanager
async def told(form: str, replies: Mapping[str, Reply]) -> AsyncIterator[tuple[Receiver, Webhooks]]:
    """A receiver that replies by the kind of hook, and what tells it."""

    def answer(heard: Heard) -> Reply:
        return replies.get(heard.body.get("Type", ""), (200, {}, b""))

    with Receiver() as receiver:
        receiver.answer = answer
        clock: Any = reactor
        webhooks = Webhooks(url=receiver.url, secret=SECRET, form=form, timeout=5.0, reactor=clock)
        try:
            yield receiver, webhooks
        finally:
            await webhooks.close()
    assert receiver.wrong == []


@ensureDeferred
async def test_a_finish_that_is_waited_for() -> None:
    """The client gets the answer of pre-finish, and receivers that know post-finish alone hear of the upload too."""
    replies = {
        "pre-finish": (200, {}, b'{"HTTPResponse": {"StatusCode": 202, "Body": "a"}}'),
        "post-finish": (200, {}, b'{"HTTPResponse": {"StatusCode": 204, "Body": "b"}}'),
    }
    async with told("tusd", replies) as (receiver, webhooks):
        verdict = await webhooks.tell(event(), waiting=True)
        assert (verdict.status, verdict.body) == (202, b"a")
        assert kinds(receiver) == ["pre-finish", "post-finish"]
        first, second = receiver.heard
        assert first.id == event().id != second.id
        await webhooks.tell(event(), waiting=True)
        assert [heard.id for heard in receiver.heard] == [first.id, second.id] * 2
        assert webhooks.timeout == 10.0, "as long as both may take"


@ensureDeferred
async def test_what_is_told_once() -> None:
    async with told("tusd", {}) as (receiver, webhooks):
        await webhooks.tell(event(), waiting=False)
        await webhooks.tell(event(State.OPEN), waiting=True)
        assert kinds(receiver) == ["post-finish", "pre-create"]
    async with told("resumable", {}) as (receiver, webhooks):
        await webhooks.tell(event(), waiting=True)
        assert len(receiver.heard) == 1


@pytest.mark.parametrize(
    ("failing", "heard"), [("pre-finish", ["pre-finish"]), ("post-finish", ["pre-finish", "post-finish"])]
)
@ensureDeferred
async def test_a_hook_that_fails(failing: str, heard: list[str]) -> None:
    """The event is not delivered: all of it will be told again."""
    async with told("tusd", {failing: (500, {}, b"")}) as (receiver, webhooks):
        with pytest.raises(NotDelivered, match="answered 500"):
            await webhooks.tell(event(), waiting=True)
        assert kinds(receiver) == heard
