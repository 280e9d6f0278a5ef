"""Telling the main application of an event: one signed POST, as Standard Webhooks define it.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime, timezone
from secrets import token_bytes, token_hex
from typing import Any

from standardwebhooks import Webhook
from twisted.logger import Logger
from twisted.web.http_headers import Headers

from resumable.callbacks.caller import Caller, CallFailure
from resumable.callbacks.formats import Format, HookResult, OwnFormat, TusdFormat
from resumable.clock import now
from resumable.model import Event, event_id
from resumable.outages import EVENTS, Reports
from resumable.retry_after import retry_after

log = Logger()

GONE = 410
#: The type of an event that is about no upload.
TEST = "resumable.test"
#: The same for receivers of tusd's hooks.
_TUSD_TEST = b'{"Type":"resumable-test","Event":{"Upload":{},"HTTPRequest":{}}}'


class NotDelivered(Exception):
    """The application has not accepted the event.

    :ivar gone: whether the application does not want to be told again (410).
    :ivar pause: seconds that the application asks to wait before the next try; 0 where it asks nothing.
    :ivar verdict: its answer, if it was a deliberate no.
    :ivar part: as of `resumable.model.Unavailable`.
    """

    def __init__(
        self,
        reason: str,
        *,
        gone: bool = False,
        pause: float = 0.0,
        verdict: HookResult | None = None,
        part: str = "",
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.gone = gone
        self.pause = pause
        self.verdict = verdict
        self.part = part


class Webhooks:
    """Posts events to `url`.

    :param secret: ``whsec_…``; None: events are not signed.
    :param form: ``resumable`` or ``tusd``.
    :param timeout: seconds that a call may take.
    :param reports: told whether the application works.
    """

    def __init__(
        self, *, url: str, secret: str | None, form: str, timeout: float, reactor: Any, reports: Reports | None = None
    ) -> None:
        self._caller = Caller(url, timeout=timeout, reactor=reactor)
        self._signer = Webhook(secret) if secret is not None else None
        self._own = form != "tusd"
        self._format: Format = TusdFormat() if form == "tusd" else OwnFormat()
        self._clock = reactor
        self._reports = reports
        #: Whether the last call was answered, if only to say that something is broken.
        self._answers = True
        #: Seconds that telling of an event may take. In tusd's format it may be two calls.
        self.timeout = 2 * timeout if form == "tusd" else timeout
        #: The URL as it may stand in a log.
        self.shown = self._caller.shown

    async def tell(self, event: Event, *, waiting: bool) -> HookResult:
        """Tell the application of an event, and return its answer.

        :param waiting: whether a client waits for the answer.
        :raises NotDelivered: the application has not accepted the event.
        """
        verdict = await self._call(event, event.id, waiting=waiting)
        if waiting and self._format.told_twice(event):
            # It is another message, so it has another id. Where it is not accepted, both are told again.
            await self._call(event, event_id(event.upload_id, f"{event.type} again"), waiting=False)
        return verdict

    async def _call(self, event: Event, message_id: str, *, waiting: bool) -> HookResult:
        body = self._format.body(event, waiting=waiting)
        try:
            said = await self._caller.call("POST", self._headers(message_id, body, self._signer), body)
        except CallFailure as trouble:
            self._report(f"{trouble.reason}{trouble.detail}", answers=False)
            raise NotDelivered(f"{trouble.reason}{trouble.detail}", part=EVENTS) from None
        self._report(f"answered {said.status}" if said.status >= 500 else None)
        gone, pause = said.status == GONE, retry_after(said.header(b"retry-after"), now(self._clock))
        try:
            verdict = self._format.verdict(event, said, waiting=waiting)
        except CallFailure as trouble:
            part = EVENTS if said.status >= 500 else ""
            raise NotDelivered(f"{trouble.reason}{trouble.detail}", gone=gone, pause=pause, part=part) from None
        if verdict.unusable:
            what = "; ".join(verdict.unusable)
            log.warn("part of an answer of the application at {app} was left out: {what}", app=self.shown, what=what)
        if not verdict.accepted:
            raise NotDelivered(f"answered {said.status}", gone=gone, pause=pause, verdict=verdict)
        return verdict

    def _report(self, failure: str | None, *, answers: bool = True) -> None:
        self._answers = answers
        if self._reports is not None and failure is not None:
            self._reports.failed(f"the application at {self.shown} {failure}")
        elif self._reports is not None:
            self._reports.worked()

    async def test(self, *, forged: bool = False) -> int:
        """Send an event that is about nothing, and return the status of the answer.

        :param forged: sign it with another secret. An application that checks signatures refuses it.
        :raises CallFailure: there is no answer.
        """
        secret = "whsec_" + b64encode(token_bytes(32)).decode("ascii")
        signer = Webhook(secret) if forged else self._signer
        event = Event("", TEST, {"message": "nothing has happened: this is a test"}, now(self._clock))
        body = self._format.body(event, waiting=False) if self._own else _TUSD_TEST
        message_id = f"msg_test_{token_hex(12)}"
        said = await self._caller.call("POST", self._headers(message_id, body, signer), body)
        return said.status

    async def look(self) -> None:
        """See whether an application that could not be reached answers again. Nothing is told to it.

        Where it has answered that something is broken, only the next event shows whether it still is.

        :raises CallFailure: it cannot be reached.
        """
        if not self._answers:
            await self.reach()
            self._report(None)

    async def reach(self) -> int:
        """Return the status that the application answers to a request that tells it nothing.

        :raises CallFailure: it cannot be reached.
        """
        return (await self._caller.call("OPTIONS", Headers({"User-Agent": ["resumable"]}))).status

    def _headers(self, message_id: str, body: bytes, signer: Webhook | None) -> Headers:
        stamped = datetime.fromtimestamp(now(self._clock), timezone.utc)
        headers = Headers()
        headers.addRawHeader("Content-Type", "application/json")
        headers.addRawHeader("User-Agent", "resumable")
        headers.addRawHeader("webhook-id", message_id)
        headers.addRawHeader("webhook-timestamp", str(int(stamped.timestamp())))
        if signer is not None:
            headers.addRawHeader("webhook-signature", signer.sign(message_id, stamped, body.decode("ascii")))
        return headers

    @property
    def signed(self) -> bool:
        """Whether events are signed."""
        return self._signer is not None

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._caller.close()
