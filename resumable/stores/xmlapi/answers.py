"""What the store's answers mean. botocore's parsers and its model of S3 read them; this module decides what may pass.

Google's XML API has the same documents.

The model is megabytes of JSON. It is loaded in a thread when the first answer needs it. The answers to most requests of
an upload do not need it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Any
from xml.etree import ElementTree

from attrs import frozen
from botocore.parsers import ResponseParserError, ResponseParserFactory
from botocore.utils import parse_timestamp
from twisted.internet.threads import deferToThreadPool

from resumable.clock import now
from resumable.retry_after import retry_after
from resumable.stores.port import StoreError, StoreUnavailable
from resumable.stores.threads import ThreadSingleFlight
from resumable.stores.transport.exchange import ERROR_LIMIT, Answer
from resumable.stores.transport.retry import FailedTry
from resumable.stores.xmlapi.codes import BUSY, BY_STATUS, OPERATORS, UNSAID, Codes

#: Bytes of XML above which it is parsed in a thread: each KiB of a listing takes about a millisecond.
LONG = 8 * 1024
#: Characters that are kept of a code and of a message. Both get into logs, and codes get into answers.
CODE = 100
MESSAGE = 500


@frozen
class CallFailure(FailedTry):
    """Why a try failed.

    :ivar status: the HTTP status, 0 without an answer.
    :ivar transient: whether the trouble may pass.
    :ivar pause: seconds that the store asks for before the next try.
    :ivar said: whether the store's own error document has the code.
    :ivar codes: what codes mean in the store that has said it.
    """

    code: str
    message: str = ""
    status: int = 0
    transient: bool = True
    pause: float = 0.0
    said: bool = False
    codes: Codes = UNSAID

    @property
    def definite(self) -> bool:
        """Whether the request is known to have had no effect."""
        if not self.said:
            return self.status in OPERATORS or self.status == 429
        return 400 <= self.status < 500 or not self.transient or self.code in BUSY

    @property
    def lost(self) -> bool:
        """Whether the store's answer was lost: none came, only half of it, or the answer of something in between."""
        return not self.said and (self.status < 300 or self.status in (408, 500, 502, 504))

    def refusal(self) -> StoreError:
        """Return what to raise if the store refuses."""
        return self.codes.refusal(self.code, self.message, self.status, said=self.said)

    def unavailable(self) -> StoreUnavailable:
        """Return what to raise if the trouble may pass, but the request is not tried again."""
        return StoreUnavailable(self.code, self.message, self.status, said=self.said)


class Answers:
    """Reads answers.

    :param codes: what the store's error codes mean.
    :param read_error: returns code and message of an error document; an empty code if it is none.
    """

    def __init__(
        self, reactor: Any, codes: Codes, read_error: Callable[[bytes], tuple[str, str]] | None = None
    ) -> None:
        self._reactor = reactor
        self._codes = codes
        self._read_error = read_error or read_error_document
        factory = ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        self._parser = factory.create_parser("rest-xml")
        self._model: Any = None
        self._load = ThreadSingleFlight(reactor, load_model)

    async def load(self) -> None:
        """Load the model, unless it is loaded already."""
        if self._model is None:
            self._model = await self._load()

    async def read(self, operation: str, answer: Answer) -> dict[str, Any] | CallFailure:
        """Return the fields of a successful answer's body, under botocore's names, or what went wrong after all.

        S3 sends "200 OK" before CompleteMultipartUpload is done, so its body may still be an error.
        """
        await self.load()
        shape = self._model.operation_model(operation).output_shape
        body = b"".join(answer.segments).strip()
        if len(body) > LONG:
            pool = self._reactor.getThreadPool()
            read: dict[str, Any] | CallFailure = await deferToThreadPool(
                self._reactor, pool, self._read, shape, answer, body
            )
            return read
        return self._read(shape, answer, body)

    def _read(self, shape: Any, answer: Answer, body: bytes) -> dict[str, Any] | CallFailure:
        root = parse(body)
        if root is not None and local_name(root) == "Error":
            return self.refusal(answer)
        try:
            if root is not None and speaks(root, shape):
                response = {"status_code": answer.status, "headers": {}, "body": body}
                fields: dict[str, Any] = self._parser.parse(response, shape)
                return fields
        except (ResponseParserError, ValueError, RuntimeError):  # values of the wrong types
            pass
        return CallFailure("MalformedAnswer", "the body is not the XML that was expected", answer.status)

    def refusal(self, answer: Answer) -> CallFailure:
        """Return the failure that an answer other than a success tells of."""
        status = answer.status
        body = b"" if answer.cut else b"".join(answer.segments).strip()
        code, message = self._read_error(body) if len(body) <= ERROR_LIMIT else ("", "")
        said = code != "" and not 300 <= status < 400
        if not code:
            code = BY_STATUS.get(status) or f"HTTP{status}"
            message = message or (HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "")
        region = answer.header(b"x-amz-bucket-region")
        if status in (301, 307, 400) and region:
            message = f"{message} (the bucket is in {region})"
        if said:
            transient = (
                status in (408, 429) or (status >= 500 and status not in (501, 505)) or code in self._codes.transient
            )
        else:
            transient = status not in OPERATORS
        pause = retry_after(answer.header(b"retry-after"), now(self._reactor))
        return CallFailure(code, plain(message), status, transient, pause, said, self._codes)


def parse(body: bytes) -> ElementTree.Element | None:
    """Return the parsed document, or None if the body is not one.

    A document that declares entities is refused, because a few hundred bytes of them can grow to megabytes; S3's
    declare none. A document with zero bytes, as in UTF-16, is refused too, because a declaration would not be seen in
    it.
    """
    if b"<!DOCTYPE" in body or b"\0" in body:
        return None
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: unknown encodings
        return None


def local_name(element: ElementTree.Element) -> str:
    """Return the element's name without its namespace, which differs between stores."""
    return element.tag.rpartition("}")[2]


def speaks(root: ElementTree.Element, shape: Any) -> bool:
    """Say whether the document has any of the expected fields. The root's name is of no use: it differs between stores.

    Without this check a well-formed page of somebody else would be read as an empty listing.
    """
    if "payload" in shape.serialization:
        shape = shape.members[shape.serialization["payload"]]
    names = {member.serialization.get("name", name) for name, member in shape.members.items()}
    return any(local_name(each) in names for each in root)


def read_error_document(body: bytes) -> tuple[str, str]:
    """Return code and message of an error document.

    The code is empty if the body is something else, such as a proxy's page.
    """
    root = parse(body) if body else None
    if root is None or local_name(root) != "Error":
        return "", ""
    fields = {local_name(each): each.text or "" for each in root}
    code = "".join(each for each in fields.get("Code", "") if " " <= each <= "~").strip()[:CODE]
    message = fields.get("Message", "")
    return ("", message) if code.isdigit() else (code, "" if message == code else message)


def plain(text: str) -> str:
    """Return the text in a form for logs: without control characters, and at most `MESSAGE` characters."""
    return "".join(each if each.isprintable() else " " for each in text[:MESSAGE])


def _timestamp(value: Any) -> datetime | None:
    """Return the time, or None if it cannot be read, so that one bad entry does not spoil a listing."""
    try:
        found: datetime = parse_timestamp(value)
    except (ValueError, OverflowError, OSError, RuntimeError):
        return None
    return found


def load_model() -> Any:
    """Load botocore's model of S3. Blocks: use a thread."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
