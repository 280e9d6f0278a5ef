"""The site: which URL speaks which protocol."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.web.resource import Resource

from resumable.model import UploadError
from resumable.protocols.messages import Request, error_response
from resumable.protocols.response import Response, problem

#: Serves a request, given what of the path follows the prefix it was found under (still percent-encoded).
Handler = Callable[[Request, bytes], Awaitable[Response]]


class Root(Resource):
    """The one resource of the site. URLs are told apart by their beginning, before anything is decoded: a name's own
    slashes, however written, belong to the name.
    """

    isLeaf = True

    def __init__(self, routes: dict[bytes, Handler]) -> None:
        """
        :param routes: path prefix (``/upload/``) to handler; a prefix that does not end in a slash is a whole path.
        """
        super().__init__()
        self._whole = {path: handler for path, handler in routes.items() if not path.endswith(b"/") or path == b"/"}
        self._prefixes = {path: handler for path, handler in routes.items() if path not in self._whole}

    async def serve(self, request: Request) -> Response:
        """Answer a request, from its headers on."""
        try:
            handler = self._whole.get(request.path)
            if handler is not None:
                return await handler(request, b"")
            for prefix, handler in self._prefixes.items():
                if request.path.startswith(prefix):
                    return await handler(request, request.path[len(prefix) :])
            return problem(404, "there is nothing here; uploads go to /upload/<name>")
        except UploadError as error:
            return error_response(error)


async def front_page(request: Request, _path: bytes) -> Response:
    """``/``: what this is, for whoever opens it in a browser."""
    if request.method not in (b"GET", b"HEAD"):
        return problem(405, "uploads go to /upload/<name>", {"Allow": "GET, HEAD"})
    text = (
        "This is resumable: it takes uploads that may break off at any byte.\n\n"
        "    curl -T FILE {base}/upload/NAME                                      upload\n"
        "    curl -X PUT -H 'Content-Range: bytes */*' -i {base}/upload/NAME      how far is it?\n"
        "    curl {base}/upload/NAME                                              the same as JSON\n"
    )
    return Response(200, text.format(base=request.origin.base).encode(), {"Content-Type": "text/plain; charset=utf-8"})
