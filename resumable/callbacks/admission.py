"""Asking the main application about an upload before it is created, with the event ``upload.created``."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.web.http_headers import Headers

from resumable.callbacks.authorizer import Refused
from resumable.callbacks.webhooks import NotDelivered, Webhooks
from resumable.model import Unavailable, Upload
from resumable.uploads.events import event_of
from resumable.uploads.policy import CreateOverrides

log = Logger()


class Admission:
    """Asks the application about each upload before it is created.

    :param partials: whether it is asked about partial uploads, too.
    """

    def __init__(self, webhooks: Webhooks, *, partials: bool = False) -> None:
        self._webhooks = webhooks
        self._partials = partials

    async def admit(self, upload: Upload) -> CreateOverrides:
        """Return what the application changes of the upload.

        :raises Refused: the application refuses the upload.
        :raises Unavailable: the application cannot be asked.
        """
        if upload.partial and not self._partials:
            return CreateOverrides()
        event = event_of(upload)
        assert event is not None, "a new upload is open"
        try:
            verdict = await self._webhooks.tell(event, waiting=True)
        except NotDelivered as failure:
            if failure.verdict is None or failure.verdict.status is None:
                if failure.part:
                    raise Unavailable(f"the application {failure.reason}", part=failure.part) from None
                what = {"app": self._webhooks.shown, "why": failure.reason}
                log.warn("an upload was not created: the application at {app} {why}", **what)
                raise Unavailable(f"the application {failure.reason}") from None
            headers = Headers()
            for name, value in failure.verdict.headers:
                headers.addRawHeader(name, value)
            raise Refused(failure.verdict.status, headers, failure.verdict.body or b"") from None
        return CreateOverrides(**verdict.changes)
