"""Why an upload did not end as it should: errors for callers, and those that the client handles itself."""

from __future__ import annotations


class ClientError(Exception):
    """The upload is not complete.

    :ivar status: the status of the answer that ended it, if there was one.
    """

    def __init__(self, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status


class Refused(ClientError):
    """The server has said no, and would say it again."""


class Failed(ClientError):
    """Something here stands in the way: the file cannot be read, or the arguments are wrong."""


class Changed(Failed):
    """The file is no longer what it was when the upload was begun."""


class Busy(Failed):
    """Another process on this machine uploads the same file to the same URL."""


class GaveUp(ClientError):
    """There was no progress for as long as the caller wanted to wait."""


class Lost(Exception):
    """There is no answer: the connection could not be made, broke off, or was silent."""


class Again(Exception):
    """A request has failed in a way that may pass.

    :ivar retry_after: seconds for which the server asks to be left alone.
    :ivar sent: bytes of the body that were sent.
    """

    sent = 0

    def __init__(self, detail: str, status: int | None = None, retry_after: float = 0.0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.retry_after = retry_after


class Gone(Exception):
    """The server has no such upload (404 or 410), or not one that this request fits (400, 409).

    :ivar first: the offset of the range that was brought; None for a query.
    """

    def __init__(self, detail: str, status: int, first: int | None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.first = first
