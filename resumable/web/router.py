"""The router: which protocol serves a request, and how its errors and its answers look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from twisted.logger import Logger
from twisted.web.resource import Resource

from resumable.model import BegunWith, UploadError
from resumable.protocols.base import Plain, Protocol, Target
from resumable.protocols.messages import Request
from resumable.protocols.problems import render_problem
from resumable.protocols.response import Response, problem
from resumable.web.cors import Cors

log = Logger()

#: Serves a page: a whole path that no protocol has.
Page = Callable[[Request], Awaitable[Response]]


class Router(Resource):
    """The one resource of the site. Requests are told apart by their heads, before anything is decoded.

    :param protocols: in the order in which they are asked.
    :param pages: by their paths; they are looked at first.
    :param cors: how pages of other origins are served; None: not at all.
    """

    isLeaf = True

    def __init__(self, protocols: Sequence[Protocol], pages: Mapping[bytes, Page], *, cors: Cors | None = None) -> None:
        super().__init__()
        self._cors = cors
        self._pages = Pages(pages)
        self._protocols = (self._pages, *protocols)

    def _find(self, request: Request) -> tuple[Protocol, Target]:
        for protocol in self._protocols:
            target = protocol.match(request)
            if target is not None:
                return protocol, target
        return self._pages, Target()

    async def serve(self, request: Request) -> Response:
        """Return the answer to a request, from its head on. Errors are answered in the form of its protocol."""
        preflight = None if self._cors is None else self._cors.preflight(request)
        if preflight is not None:
            return preflight
        protocol, target = self._find(request)
        try:
            response = await protocol.handle(request, target)
        except BegunWith as begun:
            protocol, response = await self._hand_over(protocol, request, target, begun)
        except UploadError as error:
            response = protocol.render_error(request, error)
        return self._decorate(protocol, request, response)

    async def _hand_over(
        self, protocol: Protocol, request: Request, target: Target, begun: BegunWith
    ) -> tuple[Protocol, Response]:
        """Let the protocol answer that the upload was begun with. Return it, and its answer. It asks the application anew."""
        other = next((one for one in self._protocols if one.name == begun.protocol), None)
        if other is None:
            return protocol, protocol.render_error(request, begun)
        try:
            return other, await other.handle(request, target)
        except UploadError as error:
            return other, other.render_error(request, error)

    def _decorate(self, protocol: Protocol, request: Request, response: Response) -> Response:
        response = protocol.decorate(request, response)
        return response if self._cors is None else self._cors.decorate(request, response)

    def answer_error(self, request: Request, error: UploadError) -> Response:
        """Return the answer for what went wrong outside its protocol: the connection's own refusals, and faults.

        A protocol that fails to give one does not leave the client without: it gets a plain one.
        """
        try:
            protocol, _ = self._find(request)
            return self._decorate(protocol, request, protocol.render_error(request, error))
        except Exception:
            log.failure("no answer of its protocol's form to {path}", path=ascii(request.path))
            return render_problem(error)


class Pages(Plain):
    """The pages, and the answer to what nothing else serves."""

    name = "pages"

    def __init__(self, pages: Mapping[bytes, Page]) -> None:
        self._pages = pages

    def match(self, request: Request) -> Target | None:
        """Match the pages' paths."""
        return Target() if request.path in self._pages else None

    async def handle(self, request: Request, target: Target) -> Response:
        """See `resumable.protocols.base.Protocol`."""
        page = self._pages.get(request.path)
        return (
            problem(404, "there is nothing here; uploads go to /upload/<name>") if page is None else await page(request)
        )


async def front_page(request: Request) -> Response:
    """Answer ``/``: what this is, for whoever opens it in a browser."""
    if request.method not in (b"GET", b"HEAD"):
        return problem(405, "uploads go to /upload/<name>", {"Allow": "GET, HEAD"})
    text = (
        "This is resumable: it takes uploads that may break off at any byte.\n\n"
        "    curl -T FILE {base}/upload/NAME                                      upload\n"
        "    curl -X PUT -H 'Content-Range: bytes */*' -i {base}/upload/NAME      how far is it?\n"
        "    curl {base}/upload/NAME                                              the same as JSON\n"
    )
    return Response(200, text.format(base=request.origin.base).encode(), {"Content-Type": "text/plain; charset=utf-8"})
