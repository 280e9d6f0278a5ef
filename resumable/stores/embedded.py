"""An S3 of one's own for demonstrations and tests: moto, in a child process that cannot outlive its parent.

Run as a program (``python -m resumable.stores.embedded``) this module is the child: it prints its port and serves until its
standard input ends, which it does however the parent dies.

It takes any key and secret, so nothing in it is a secret: what is stored can be read without any, at the object's URL.
"""

from __future__ import annotations

import logging
import os
import signal
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

#: Seconds for the child to begin to serve (moto is a large import), and to end when it is told to.
START = 60.0
STOP = 5.0
#: Last lines of the child's standard error that are shown when it dies.
LAST_WORDS = 15

MISSING = "the embedded store needs moto: pip install 'twisted-resumable[demo]'"

#: What stands for a signature: moto looks at its form, and never at whether it is right.
SIGNED = "AWS4-HMAC-SHA256 Credential=anybody/20060301/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


#: S3's ACLs that have a name.
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
        """Take the port, which comes on a line of its own."""
        self._output += data
        if b"\n" in self._output and not self.port.called:
            self.port.callback(int(self._output))

    def errReceived(self, data: bytes) -> None:
        """Keep the last lines, in case they explain an end."""
        first, *rest = data.split(b"\n")
        self._errors[-1] += first
        self._errors.extend(rest)

    def processEnded(self, reason: Failure) -> None:
        """Tell whoever waits that the child is gone, and why if nobody wanted that."""
        words = b"\n".join(self._errors).decode(errors="replace").strip()
        how = "" if isinstance(reason.value, ProcessDone) else f" ({reason.getErrorMessage()})"
        message = words if words.endswith(MISSING) else f"the embedded store ended{how}: {words}"
        if not self.port.called:
            self.port.errback(RuntimeError(message))
        elif not self.stopping:
            self._log.error("{message}", message=message)
        self.ended.callback(None)


class EmbeddedS3:
    """moto's S3 on a free port of 127.0.0.1.

    It takes any key and secret, anybody may read what it holds, and that is gone when it ends.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._child: _Child | None = None

    async def start(self) -> str:
        """Start the child and return the URL of its endpoint when it serves.

        :raises RuntimeError: it does not start; the message says why.
        """
        child = self._child = _Child()
        command = [sys.executable, "-m", "resumable.stores.embedded"]
        # The child has to find the same modules, wherever this process has them from.
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
            if late.active():
                late.cancel()
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
        if kill.active():
            kill.cancel()


def _kill(process: Any) -> None:
    with suppress(ProcessExitedAlready):
        process.signalProcess("KILL")


class _AclsOfS3:
    """WSGI middleware: an ACL that there is not is refused in S3's own words.

    moto answers a bare 500, which says that it may pass; it would be tried again for the whole patience.
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
    """WSGI middleware: who reads without credentials is served as one who has some.

    moto gives an object that was stored in one request its bucket's ACL, which is private, and one that was stored in parts
    none at all. Bucket policies and ACLs would each have to be set for every bucket, and again for what an upload brings
    of its own. Replacing and deleting still take a signature, if only of the form: a stray request is not to do it.
    """

    def __init__(self, application: Callable[[dict[str, Any], Any], Iterable[bytes]]) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request, as WSGI wants it."""
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            environ.setdefault("HTTP_AUTHORIZATION", SIGNED)
        return self._application(environ, start_response)


def main() -> None:
    """Serve as the child, until standard input ends."""
    # Ctrl-C in a terminal reaches the whole process group; the parent still stores what it holds, and ends this after.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so does the end of the terminal
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        from moto.moto_server import werkzeug_app as moto
        from werkzeug.serving import make_server
    except ImportError:
        sys.exit(MISSING)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # S3 and nothing else: moto's own dispatcher takes some objects' paths for another service's
    # ("x/.well-known/jwks.json" for Cognito's). The handler, which newer ones have, keeps metadata names that have a "_".
    server = make_server(
        "127.0.0.1",
        0,
        _AclsOfS3(_ReadableByAll(moto.create_backend_app("s3"))),
        threaded=True,
        request_handler=getattr(moto, "MotoRequestHandler", None),
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    while sys.stdin.buffer.read(4096):
        pass
    # Requests in flight, and what is stored, are for nobody now.
    os._exit(0)


if __name__ == "__main__":
    main()
