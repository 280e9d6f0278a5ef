"""What the store's answers mean: botocore's parsers and its model of S3 read them, and here is decided what may pass.

The model is megabytes of JSON: it is loaded in a thread when the first answer comes that needs it. What the many small
requests of an upload are answered needs none of it.
"""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree

from attrs import frozen
from botocore.parsers import ResponseParserError, create_parser
from twisted.internet.threads import deferToThreadPool

from resumable.stores.threads import Shared
from resumable.stores.transport import Answer

#: Error codes that may not come again; beside them every 5xx (but 501 and 505), 408 and 429. BadDigest and IncompleteBody
#: are what is said when bytes were damaged on the way.
TRANSIENT = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "RequestThrottled",
        "RequestLimitExceeded",
        "BandwidthLimitExceeded",
        "TooManyRequests",
        "OperationAborted",
        "BadDigest",
        "IncompleteBody",
    }
)
#: Error codes by which credentials are said to be of yesterday.
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "InvalidToken"})

#: What a refusal without a body (to HEAD) means.
BY_STATUS = {
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    409: "Conflict",
    412: "PreconditionFailed",
    429: "SlowDown",
    500: "InternalError",
    503: "ServiceUnavailable",
}
#: Bytes of XML above which it is read in a thread: some tens of milliseconds.
LONG = 64 * 1024


@frozen
class Trouble:
    """Why a try came to nothing. A value and not an exception, whose traceback would keep the body alive.

    :ivar status: the HTTP status, 0 without an answer.
    :ivar transient: whether it may pass.
    :ivar pause: seconds that the store asks for before the next try.
    """

    code: str
    message: str = ""
    status: int = 0
    transient: bool = True
    pause: float = 0.0


class Answers:
    """Reads answers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._parser = create_parser("rest-xml")
        self._model: Any = None
        self._load = Shared(reactor, load_model)

    async def load(self) -> None:
        """Have the model at hand."""
        if self._model is None:
            self._model = await self._load()

    async def read(self, operation: str, answer: Answer) -> dict[str, Any] | Trouble:
        """The fields of a successful answer's body, under botocore's names; or what went wrong after all.

        "200 OK" is sent before CompleteMultipartUpload is done, and an error may be what the body says then.
        """
        await self.load()
        shape = self._model.operation_model(operation).output_shape
        body = b"".join(answer.segments).strip()
        if len(body) > LONG:
            pool = self._reactor.getThreadPool()
            read: dict[str, Any] | Trouble = await deferToThreadPool(
                self._reactor, pool, self._read, shape, answer, body
            )
            return read
        return self._read(shape, answer, body)

    def _read(self, shape: Any, answer: Answer, body: bytes) -> dict[str, Any] | Trouble:
        try:
            if ElementTree.fromstring(body).tag.rpartition("}")[2] == "Error":
                return self.refusal(answer)
            response = {"status_code": answer.status, "headers": {}, "body": body}
            fields: dict[str, Any] = self._parser.parse(response, shape)
            return fields
        except (ElementTree.ParseError, ResponseParserError):
            return Trouble("MalformedAnswer", "the body is not the XML that was expected", answer.status)

    def refusal(self, answer: Answer) -> Trouble:
        """What an answer says that is not a success."""
        status, error = answer.status, {}
        body = b"".join(answer.segments).strip()
        if body:
            # The parser looks for an error only where the status says that there is one.
            response = {"status_code": max(status, 400), "headers": {}, "body": body}
            # A proxy's page is not XML.
            with suppress(ResponseParserError):
                error = self._parser.parse(response, None).get("Error", {})
        code, message = str(error.get("Code") or ""), str(error.get("Message") or "")
        message = "" if message == code else message
        if not code or code.isdigit():
            code = BY_STATUS.get(status) or f"HTTP{status}"
            message = message or (HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "")
        region = answer.header(b"x-amz-bucket-region")
        if status in (301, 307, 400) and region:
            message = f"{message} (the bucket is in {region})"
        passing = status in (408, 429) or (status >= 500 and status not in (501, 505))
        return Trouble(code, message[:500], status, passing or code in TRANSIENT, retry_after(answer))


def retry_after(answer: Answer) -> float:
    """Seconds that the store wants to be left alone for; a date is not looked at."""
    value = answer.header(b"retry-after") or ""
    return float(value) if value.isascii() and value.isdigit() else 0.0


def load_model() -> Any:
    """In a thread: botocore's description of S3."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
