"""A local S3 for demonstrations and tests: moto, in a child process that cannot outlive its parent.

Run as a program (``python -m resumable.stores.embedded [PORT]``) this module is the child. It prints its port, and serves
until its standard input ends, which happens however the parent dies.

It accepts any key and secret, so nothing in it is secret. Objects can be read at their URLs without credentials.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from resumable.clock import cancel_if_active

#: Where the service has it listen, so that its URLs can be written down. If the port is taken: on a free one.
PORT = 9000
#: Seconds that the child may take to begin to serve (moto is a large import), and to end when told to.
START = 60.0
STOP = 5.0
#: Last lines of the child's standard error that are shown when it dies.
LAST_WORDS = 15

MISSING = "the embedded store needs moto: pip install 'twisted-resumable[demo]'"

#: Stands for a signature: moto checks its form, but never whether it is right.
SIGNED = "AWS4-HMAC-SHA256 Credential=anybody/20060301/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


#: The names of S3's canned ACLs.
CANNED_ACLS = frozenset(
    {
        "private",
        "public-read",
        "public-read-write",
        "authenticated-read",
        "aws-exec-read",
        "bucket-owner-read",
        "bucket-owner-full-control",
        "log-delivery-write",
    }
)
NO_ACL = b"<Error><Code>InvalidArgument</Code><Message>there is no such ACL</Message></Error>"


class _Child(ProcessProtocol):
    """The child as the parent sees it: `port` fires when it serves, `ended` when it is gone."""

    _log = Logger()

    def __init__(self) -> None:
        self.port: Deferred[int] = Deferred()
        self.ended: Deferred[None] = Deferred()
        self.stopping = False
        self._output = b""
        self._errors: deque[bytes] = deque([b""], maxlen=LAST_WORDS)

    def outReceived(self, data: bytes) -> None:
        """Take the port, which is printed on a line of its own."""
        self._output += data
        if b"\n" in self._output and not self.port.called:
            self.port.callback(int(self._output))

    def errReceived(self, data: bytes) -> None:
        """Keep the last lines, in case they explain why the child ended."""
        first, *rest = data.split(b"\n")
        self._errors[-1] += first
        self._errors.extend(rest)

    def processEnded(self, reason: Failure) -> None:
        """Tell those who wait that the child is gone, and why if it was not told to end."""
        words = b"\n".join(self._errors).decode(errors="replace").strip()
        how = "" if isinstance(reason.value, ProcessDone) else f" ({reason.getErrorMessage()})"
        message = words if words.endswith(MISSING) else f"the embedded store ended{how}: {words}"
        if not self.port.called:
            self.port.errback(RuntimeError(message))
        elif not self.stopping:
            self._log.error("{message}", message=message)
        self.ended.callback(None)


class EmbeddedS3:
    """moto's S3 on 127.0.0.1.

    It accepts any key and secret, and anybody may read what it holds. Everything is gone when it ends.
    """

    def __init__(self, reactor: Any, port: int = 0) -> None:
        """
        :param port: where to listen; if it is taken, or 0, on a free port.
        """
        self._reactor = reactor
        self._port = port
        self._child: _Child | None = None

    async def start(self) -> str:
        """Start the child and return the URL of its endpoint when it serves.

        :raises RuntimeError: the child does not start; the message says why.
        """
        child = self._child = _Child()
        command = [sys.executable, "-m", "resumable.stores.embedded", str(self._port)]
        # The child has to find the same modules as this process.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._reactor.spawnProcess(child, command[0], command, environment)
        late = self._reactor.callLater(START, child.port.cancel)
        try:
            port = await child.port
        except BaseException as error:
            await self.stop()
            if isinstance(error, RuntimeError) or late.active():
                raise
            raise RuntimeError(f"the embedded store did not start within {START:g} s") from None
        finally:
            cancel_if_active(late)
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """End the child and wait until it is gone."""
        child, self._child = self._child, None
        if child is None or child.ended.called or child.transport is None:
            return
        child.stopping = True
        child.transport.closeStdin()
        kill = self._reactor.callLater(STOP, _kill, child.transport)
        await child.ended
        cancel_if_active(kill)


def _kill(process: Any) -> None:
    with suppress(ProcessExitedAlready):
        process.signalProcess("KILL")


class _AclsOfS3:
    """WSGI middleware: refuses an unknown ACL with S3's own error.

    moto answers a bare 500. That counts as passing trouble, so the request would be tried again until patience runs
    out.
    """

    def __init__(self, application: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request, as WSGI wants it."""
        acl = environ.get("HTTP_X_AMZ_ACL")
        if acl is None or acl in CANNED_ACLS:
            return self._application(environ, start_response)
        # The next request on the connection begins where this one's body ends.
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("400 Bad Request", [("Content-Type", "application/xml"), ("Content-Length", str(len(NO_ACL)))])
        return [NO_ACL]


class _ReadableByAll:
    """WSGI middleware: serves reads without credentials as if they had some.

    moto gives an object that was stored in one request its bucket's ACL, which is private, and an object that was
    stored in parts none at all. Policies or ACLs would have to be set for every bucket, and for every upload with an
    ACL of its own. Writing and deleting still need something of the form of a signature, so that a stray request does
    neither.
    """

    def __init__(self, application: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request, as WSGI wants it."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            environ.setdefault("HTTP_AUTHORIZATION", SIGNED)
        return self._application(environ, start_response)


def open_socket(port: int) -> socket.socket:
    """Return a socket that listens on `port` of 127.0.0.1 or, where that cannot be had, on a free port."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError:
        return socket.create_server(("127.0.0.1", 0), backlog=128)


def main() -> None:
    """Serve as the child, until standard input ends."""
    # Ctrl-C in a terminal reaches the whole process group. The parent first stores what it holds, then ends this
    # process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal reaches the group too
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        from moto.moto_server import werkzeug_app as moto
        from werkzeug.serving import make_server
    except ImportError:
        sys.exit(MISSING)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # Only S3: moto's own dispatcher takes the paths of some objects for another service
    # ("x/.well-known/jwks.json" for Cognito). The request handler, in newer versions, keeps metadata names with a "_".
    listening = open_socket(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    host, port = listening.getsockname()
    server = make_server(
        host,
        port,
        _AclsOfS3(_ReadableByAll(moto.create_backend_app("s3"))),
        threaded=True,
        request_handler=getattr(moto, "MotoRequestHandler", None),
        fd=listening.fileno(),  # werkzeug would end the program where a port is taken
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(port, flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # Nobody needs the requests in flight, or what is stored, any more.
    os._exit(0)


if __name__ == "__main__":
    main()
