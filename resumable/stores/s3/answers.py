"""What the store's answers mean: botocore's parsers and its model of S3 read them, and here is decided what may pass.

The model is megabytes of JSON: it is loaded in a thread when the first answer comes that needs it. What the many small
requests of an upload are answered needs none of it.
"""

from __future__ import annotations

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
from resumable.stores.s3.codes import BUSY, BY_STATUS, OPERATORS, TRANSIENT, refusal
from resumable.stores.threads import ThreadSingleFlight
from resumable.stores.transport.exchange import ERROR_LIMIT, Answer
from resumable.stores.transport.retry import FailedTry

#: Bytes of XML above which it is read in a thread: each KiB of a listing takes a millisecond or so.
LONG = 8 * 1024
#: Characters of a code and of a message that are kept: both get into logs, and codes into answers.
CODE = 100
MESSAGE = 500


@frozen
class CallFailure(FailedTry):
    """Why a try came to nothing.

    :ivar status: the HTTP status, 0 without an answer.
    :ivar transient: whether it may pass.
    :ivar pause: seconds that the store asks for before the next try.
    :ivar said: whether the store's own error document has the code.
    """

    code: str
    message: str = ""
    status: int = 0
    transient: bool = True
    pause: float = 0.0
    said: bool = False

    @property
    def definite(self) -> bool:
        """Whether the request is known to have had no effect."""
        if not self.said:
            return self.status in OPERATORS or self.status == 429
        return 400 <= self.status < 500 or not self.transient or self.code in BUSY

    @property
    def lost(self) -> bool:
        """Whether the store's answer was lost: none came, half of one, or that of something in between."""
        return not self.said and (self.status < 300 or self.status in (408, 500, 502, 504))

    def refusal(self) -> StoreError:
        """Return what to raise if the store refuses."""
        return refusal(self.code, self.message, self.status, said=self.said)

    def unavailable(self) -> StoreUnavailable:
        """Return what to raise if it may pass, but is not tried again."""
        return StoreUnavailable(self.code, self.message, self.status, said=self.said)


class Answers:
    """Reads answers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        factory = ResponseParserFactory()
        factory.set_parser_defaults(timestamp_parser=_timestamp)
        self._parser = factory.create_parser("rest-xml")
        self._model: Any = None
        self._load = ThreadSingleFlight(reactor, load_model)

    async def load(self) -> None:
        """Load the model, unless it is loaded."""
        if self._model is None:
            self._model = await self._load()

    async def read(self, operation: str, answer: Answer) -> dict[str, Any] | CallFailure:
        """Return the fields of a successful answer's body, under botocore's names; or what went wrong after all.

        "200 OK" is sent before CompleteMultipartUpload is done, and an error may be what the body says then.
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
        except (ResponseParserError, ValueError, RuntimeError):  # values that are not of their types
            pass
        return CallFailure("MalformedAnswer", "the body is not the XML that was expected", answer.status)

    def refusal(self, answer: Answer) -> CallFailure:
        """Return what an answer says that is not a success."""
        status = answer.status
        body = b"" if answer.cut else b"".join(answer.segments).strip()
        code, message = read_error(body) if len(body) <= ERROR_LIMIT else ("", "")
        said = code != "" and not 300 <= status < 400
        if not code:
            code = BY_STATUS.get(status) or f"HTTP{status}"
            message = message or (HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "")
        region = answer.header(b"x-amz-bucket-region")
        if status in (301, 307, 400) and region:
            message = f"{message} (the bucket is in {region})"
        if said:
            transient = status in (408, 429) or (status >= 500 and status not in (501, 505)) or code in TRANSIENT
        else:
            transient = status not in OPERATORS
        pause = retry_after(answer.header(b"retry-after"), now(self._reactor))
        return CallFailure(code, plain(message), status, transient, pause, said)


def parse(body: bytes) -> ElementTree.Element | None:
    """Return the document, or None if it is none.

    S3's documents declare no entities, a few hundred bytes of which can become megabytes: one that does is refused. So is one
    with zero bytes, which an encoding such as UTF-16 has, for there a declaration would not be seen.
    """
    if b"<!DOCTYPE" in body or b"\0" in body:
        return None
    try:
        return ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):  # the last two: encodings that there are not
        return None


def local_name(element: ElementTree.Element) -> str:
    """Return the element's name without its namespace, which not all stores agree on."""
    return element.tag.rpartition("}")[2]


def speaks(root: ElementTree.Element, shape: Any) -> bool:
    """Say whether the document has any of the fields that are looked for; its root has another name in other stores.

    Somebody else's page may be well-formed too, and would be read as a listing of nothing.
    """
    names = {member.serialization.get("name", name) for name, member in shape.members.items()}
    return any(local_name(each) in names for each in root)


def read_error(body: bytes) -> tuple[str, str]:
    """Return code and message of an error document; the code is empty if the body is none, such as a proxy's page."""
    root = parse(body) if body else None
    if root is None or local_name(root) != "Error":
        return "", ""
    fields = {local_name(each): each.text or "" for each in root}
    code = "".join(each for each in fields.get("Code", "") if " " <= each <= "~").strip()[:CODE]
    message = fields.get("Message", "")
    return ("", message) if code.isdigit() else (code, "" if message == code else message)


def plain(text: str) -> str:
    """Return the text as a log may have it: without control characters, and not endless."""
    return "".join(each if each.isprintable() else " " for each in text[:MESSAGE])


def _timestamp(value: Any) -> datetime | None:
    """Return the time, or None if it cannot be read: one entry of a listing must not end the listing."""
    try:
        found: datetime = parse_timestamp(value)
    except (ValueError, OverflowError, OSError, RuntimeError):
        return None
    return found


def load_model() -> Any:
    """Load botocore's description of S3. Blocks: for a thread."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel

    return ServiceModel(Loader().load_service_model("s3", "service-2"), "s3")
