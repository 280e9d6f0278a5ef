"""What a protocol is: one way of speaking about uploads on the wire. It translates, and decides nothing about bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol as Structural
from typing import runtime_checkable

from attrs import frozen

from resumable.model import UploadError
from resumable.protocols.access import Description
from resumable.protocols.messages import Request
from resumable.protocols.problems import render_problem
from resumable.protocols.response import Response


@frozen
class Target:
    """What a request is about, as far as its head says. A protocol that needs more has a subclass.

    :ivar name: the upload's name, still percent-encoded.
    :ivar upload_id: the upload's id, where the URL has one.
    """

    name: bytes | None = None
    upload_id: str | None = None


@frozen
class Spoken:
    """What a browser has to be told of a protocol, so that pages of other origins can speak it.

    :ivar methods: of requests.
    :ivar sent: headers of requests that the protocol reads.
    :ivar read: headers of answers that its clients read.
    """

    methods: Sequence[str] = ()
    sent: Sequence[str] = ()
    read: Sequence[str] = ()


class Protocol(Structural):
    """One way of speaking on the wire. `resumable.protocols.registry` says in which order they are asked.

    :ivar name: stands in `Upload.protocol`, in the metrics and in the JSON.
    :ivar spoken: what pages of other origins may send and read.
    """

    name: str
    spoken: Spoken

    def match(self, request: Request) -> Target | None:
        """Return what the request is about if it speaks this protocol, else None.

        Method, path, query and headers may be looked at. Nobody is asked, and the same request always gets the same answer.
        """

    async def handle(self, request: Request, target: Target) -> Response:
        """Answer the request.

        :param target: what `match` has returned for it.
        :raises BegunWith: the request says nothing of a protocol, and the upload was begun with another one that has the same
            URLs. That one gets the request then, with the same `target`.
        :raises UploadError: what `render_error` turns into an answer.
        """

    def render_error(self, request: Request, error: UploadError) -> Response:
        """Return the answer for an error in the protocol's own form. It must have one for every `UploadError`."""

    def decorate(self, request: Request, response: Response) -> Response:
        """Return the answer with what every answer of this protocol carries, errors and refusals of the connection included."""


@runtime_checkable
class Prepares(Structural):
    """What a protocol may have beside `Protocol`: ``POST /uploads`` makes uploads that its clients go on with at once.

    :ivar name: as in `Protocol`.
    """

    name: str

    def prepare(self, description: Description) -> Description:
        """Return what such an upload is created with: with what the protocol's clients will want to know of it."""

    def url_of(self, request: Request, upload_id: str) -> str:
        """Return the absolute URL at which the protocol's clients go on.

        :param request: whose sender is told.
        """


@runtime_checkable
class MakesForOthers(Structural):
    """What a protocol may have beside `Protocol`: it creates uploads with which the clients of other protocols go on."""

    def make_for(self, protocols: Iterable[Prepares]) -> None:
        """Take note of those protocols; called once, before anything is served."""


class Plain:
    """Errors as problem details (RFC 9457) and answers as they are: for protocols that have no form of their own."""

    spoken = Spoken()

    def render_error(self, request: Request, error: UploadError) -> Response:
        """See `Protocol`."""
        return render_problem(error)

    def decorate(self, request: Request, response: Response) -> Response:
        """See `Protocol`."""
        return response
