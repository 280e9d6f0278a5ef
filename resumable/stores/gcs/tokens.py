"""Bearer tokens for requests, from google-auth: a key file, or Application Default Credentials.

google-auth reads files and asks servers, and blocks meanwhile. So all of it runs in threads, one at a time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from resumable.clock import now
from resumable.stores.gcs.presigning import prepare
from resumable.stores.threads import ThreadSingleFlight
from resumable.stores.xmlapi.credentials import CannotSign, NoCredentials, Search

#: IAM says what the account may do; this scope (Google's own advice) takes nothing away, and covers signing by IAM.
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
#: Seconds before its end from which a token is renewed while it is still used. The figure is google-auth's. A longer one
#: would ask for a new token again and again, since the metadata server hands out tokens that have not much longer left.
STALE = 225.0
#: Seconds between two tries to renew a token that is still valid.
RENEWAL_PAUSE = 60.0
#: Seconds for which a server of tokens or signatures may be silent. google-auth's own figure is 120, and a thread that waits
#: cannot be ended: all calls of the store would wait for it, and so would the end of the process.
SILENCE = 15.0
#: What to do where google-auth is not there.
MISSING = "store.kind gcs needs the package google-auth: pip install 'twisted-resumable[gcs]'"
_FILE = "GOOGLE_APPLICATION_CREDENTIALS"


@frozen
class _Found:
    """A token.

    :ivar source: google-auth's credentials, which gave it.
    :ivar expires: when it ends, in seconds since the epoch; None if it does not.
    :ivar project: the project that requests are charged to, if it is not the bucket's.
    """

    source: Any
    token: str
    expires: float | None
    project: str | None


class Tokens:
    """Adds bearer tokens to requests: see `resumable.stores.xmlapi.credentials.Credentials`.

    :param path: of a key file; None for Application Default Credentials (``GOOGLE_APPLICATION_CREDENTIALS``, gcloud's
        own, the metadata server).
    """

    _log = Logger()

    def __init__(self, reactor: Any, path: str | None = None) -> None:
        self._reactor = reactor
        self._path = path
        self._found: _Found | None = None
        self._find = ThreadSingleFlight(reactor, self._find_now)
        self._renew = ThreadSingleFlight(reactor, self._renew_now)
        self._next_renewal = 0.0
        self._search = Search(reactor, partial(self._obtain, self._find))

    async def ready(self) -> None:
        """Wait until there is a token that has not ended.

        :raises NoCredentials: none can be had just now.
        """
        if self._found is None:
            await self._obtain(self._find)
            return
        if self._found.expires is None:
            return
        left = self._found.expires - now(self._reactor)
        if left <= 0:
            await self._obtain(self._renew)
        elif left < STALE and not self._renew.running and self._reactor.seconds() >= self._next_renewal:
            self._next_renewal = self._reactor.seconds() + RENEWAL_PAUSE
            self._renew().addCallbacks(self._use, self._not_renewed)

    async def replace(self, *, guess: bool = False) -> bool:
        """Look for the credentials anew, and get another token, because the store refuses this one.

        :param guess: makes no difference: only credentials are answered with 401.
        :return: whether that was done. A little while after one that did not help it is not.
        :raises NoCredentials: none can be had just now.
        """
        return await self._search.run()

    def refused_again(self) -> None:
        """Note that the last replacement did not help."""
        self._search.was_in_vain()

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the headers to send, including the token."""
        assert self._found is not None, "ready() comes first"
        mine = [("Authorization", f"Bearer {self._found.token}")]
        if self._found.project is not None:
            mine.append(("x-goog-user-project", self._found.project))
        return [*headers.items(), *mine]

    async def presigned(self, method: str, url: str, seconds: int) -> str:
        """Return the URL, signed with the account's key, or by IAM (``iam.serviceAccounts.signBlob``) if that is elsewhere.

        :raises CannotSign: these credentials cannot.
        """
        assert self._found is not None, "ready() comes first"
        source, time = self._found.source, now(self._reactor)
        pool = self._reactor.getThreadPool()
        signed: str = await deferToThreadPool(
            self._reactor, pool, lambda: _sign_now(source, method, url, time, seconds)
        )
        return signed

    async def _obtain(self, source: ThreadSingleFlight[_Found]) -> None:
        waiting: Deferred[_Found] = source()
        try:
            self._use(await waiting)
        except (CancelledError, NoCredentials):
            raise
        except Exception as error:
            # Whatever a source of credentials may raise.
            raise NoCredentials(_told(error)) from None

    def _use(self, found: _Found) -> None:
        self._found = found

    def _not_renewed(self, failure: Any) -> None:
        # Not the exception's own words, which may quote much of what a server said.
        self._log.warn("no new token from Google yet ({reason}): it is tried again", reason=failure.type.__name__)

    def _find_now(self) -> _Found:
        """Look for credentials, and get a token. Blocks: use a thread."""
        try:
            import google.auth
            from google.auth.credentials import with_scopes_if_required
        except ImportError:
            raise NoCredentials(MISSING) from None
        path = self._path or os.environ.get(_FILE)
        if path:
            # default() would ask Google for the project of federated credentials, which is not needed here.
            with warnings.catch_warnings():
                # It warns of files from strangers. This one is the operator's.
                warnings.simplefilter("ignore", DeprecationWarning)
                source, _ = google.auth.load_credentials_from_file(path)
            source = with_scopes_if_required(source, SCOPES)
        else:
            source, _ = google.auth.default(scopes=SCOPES)
        return _refreshed(source)

    def _renew_now(self) -> _Found:
        """Get another token of the same credentials. Blocks: use a thread."""
        assert self._found is not None
        return _refreshed(self._found.source)


def _refreshed(source: Any) -> _Found:
    source.refresh(_request())
    expiry: datetime | None = source.expiry
    # google-auth's times are in UTC and do not say so.
    expires = None if expiry is None else expiry.replace(tzinfo=timezone.utc).timestamp()
    return _Found(source, source.token, expires, getattr(source, "quota_project_id", None))


def _request() -> Any:
    try:
        from google.auth.transport.requests import Request
    except ImportError:
        raise NoCredentials(MISSING) from None

    class Impatient(Request):  # type: ignore[misc,unused-ignore]
        """A request that is not waited for without end, whatever google-auth asks for."""

        def __call__(
            self,
            url: str,
            method: str = "GET",
            body: Any = None,
            headers: Any = None,
            timeout: float | None = None,
            **options: Any,
        ) -> Any:
            limit = min(timeout or SILENCE, SILENCE)
            return super().__call__(url, method, body, headers, limit, **options)  # type: ignore[no-untyped-call]

    return Impatient()


def _told(error: Exception) -> str:
    """Return what an error says, for the operator.

    Of google-auth's own errors only the first argument is in words. The next is a server's whole answer, in which there may
    be tokens.
    """
    words = error.args[0] if len(error.args) > 1 and isinstance(error.args[0], str) else error
    return f"{type(error).__name__}: {words}"


def _sign_now(source: Any, method: str, url: str, time: float, seconds: int) -> str:
    """Return the signed URL. May ask IAM for the signature, and blocks then: use a thread.

    :raises CannotSign: it cannot be signed.
    """
    from google.auth import credentials, iam
    from google.auth.exceptions import GoogleAuthError

    email = getattr(source, "signer_email", None) or getattr(source, "service_account_email", None)
    if not email or email == "default":
        raise CannotSign("these credentials are not a service account's: no URL can be signed with them")
    unsigned = prepare(method, url, email, time, seconds)
    try:
        if isinstance(source, credentials.Signing):
            return unsigned.signed(source.sign_bytes(unsigned.text))
        return unsigned.signed(iam.Signer(_request(), source, email).sign(unsigned.text))
    except GoogleAuthError as error:
        raise CannotSign(_told(error)) from None
