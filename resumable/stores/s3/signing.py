"""Signing requests: Signature Version 4, with botocore's credentials.

Bodies are not signed (``UNSIGNED-PAYLOAD``), because hashing them would cost more than everything else that is done
with them. TLS protects them on the way, and the checksum header tells the store what it must have received.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import Any

from attrs import frozen
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from twisted.internet.defer import CancelledError, Deferred

from resumable.clock import now
from resumable.stores.s3.signature import sign
from resumable.stores.threads import ThreadSingleFlight
from resumable.stores.xmlapi.credentials import NoCredentials, Search

#: Credentials that expire within so many seconds have to be renewed before anything is signed. The figure is
#: botocore's.
MANDATORY = 10 * 60.0
#: Seconds between two tries to renew credentials while the old ones are still valid.
RENEWAL_PAUSE = 60.0

# At debug level botocore would write signatures into the log.
logging.getLogger("botocore.auth").setLevel(logging.INFO)


@frozen
class _Found:
    """Credentials.

    :ivar expires: when they end; None if they do not, or nobody says when.
    """

    credentials: ReadOnlyCredentials
    expires: datetime | None = None


class Signer:
    """Signs requests, with the given credentials or with what botocore's chain finds.

    The chain (environment, profile, web identity, container and instance roles) may read files and ask servers. So it
    runs in a thread, as does every renewal, and only one at a time. Credentials that are due for renewal but still
    valid are used until the new ones are there.
    """

    def __init__(
        self,
        reactor: Any,
        region: str,
        *,
        access_key: str | None = None,
        secret_key: str | None = None,
        session_token: str | None = None,
    ) -> None:
        self._clock = reactor
        self._region = region
        self._source: Any = None
        self._found: _Found | None = None
        self._find = ThreadSingleFlight(reactor, self._find_now)
        self._renew = ThreadSingleFlight(reactor, self._renew_now)
        self._next_renewal = 0.0
        self._next_guess: float | None = None
        self._search = Search(reactor, partial(self._obtain, self._find))
        self._given = access_key is not None
        if access_key is not None:
            self._use(_Found(ReadOnlyCredentials(access_key, secret_key, session_token)))

    async def ready(self) -> None:
        """Wait until there are credentials that stay valid for a while.

        :raises NoCredentials: none can be had just now.
        """
        if self._found is None:
            await self._obtain(self._find)
        # Credentials that never expire lack this method.
        elif self._source is not None and self._source.refresh_needed():
            if self._source.refresh_needed(MANDATORY):
                await self._obtain(self._renew)
            elif not self._renew.running and self._clock.seconds() >= self._next_renewal:
                self._next_renewal = self._clock.seconds() + RENEWAL_PAUSE
                # botocore logs why a renewal failed. It is tried again.
                self._renew().addCallbacks(self._use, lambda _: None)

    async def replace(self, *, guess: bool = False) -> bool:
        """Look for new credentials, because the store refuses these. Do nothing if the settings gave them.

        :param guess: whether the store did not name the credentials as the reason. Then it may be something else, and
            new ones are not looked for again and again.
        :return: whether new ones were looked for. A little while after a search that did not help they are not.
        :raises NoCredentials: none can be had just now.
        """
        present = self._clock.seconds()
        if self._given or (guess and self._next_guess is not None and present < self._next_guess):
            return False
        if not self._search.paused:
            self._next_guess = present + RENEWAL_PAUSE
        return await self._search.run()

    def refused_again(self) -> None:
        """Note that the last replacement did not help."""
        self._search.was_in_vain()

    def sign(self, method: str, url: str, headers: Mapping[str, str]) -> list[tuple[str, str]]:
        """Return the headers to send, including the signature.

        :param url: percent-encoded as it will be sent. Every name in the query has an ``=``.
        """
        assert self._found is not None, "ready() comes first"
        credentials = self._found.credentials
        return list(sign(method, url, headers, credentials, self._region, now(self._clock)).items())

    def presign(self, method: str, url: str, seconds: int) -> str:
        """Return the URL with a signature in its query, which is all that a request needs.

        :param url: percent-encoded, without a query.
        :param seconds: how long it is valid, at most. It ends no later than the credentials.
        :raises NoCredentials: they have ended.
        """
        assert self._found is not None, "ready() comes first"
        if self._found.expires is not None:
            left = self._found.expires.timestamp() - now(self._clock)
            if left < 1:
                raise NoCredentials("the credentials have expired")
            seconds = min(seconds, int(left))
        request = AWSRequest(method=method, url=url)
        S3SigV4QueryAuth(self._found.credentials, "s3", self._region, expires=seconds).add_auth(request)
        return str(request.url)

    async def presigned(self, method: str, url: str, seconds: int) -> str:
        """Return the URL with a signature: see `presign`."""
        return self.presign(method, url, seconds)

    async def _obtain(self, source: ThreadSingleFlight[_Found]) -> None:
        waiting: Deferred[_Found] = source()
        try:
            self._use(await waiting)
        except (CancelledError, NoCredentials):
            raise
        except Exception as error:
            # A provider of the chain may raise anything, and botocore does not catch it.
            raise NoCredentials(f"{type(error).__name__}: {error}") from None

    def _use(self, found: _Found) -> None:
        self._found = found

    def _find_now(self) -> _Found:
        """Ask the chain anew. Blocks: use a thread."""
        # With its clients, waiters and their documentation it takes megabytes. Credentials that are given do without.
        from botocore.session import Session

        found = Session().get_credentials()
        if found is None:
            raise NoCredentials("no credentials are configured, and none were found where AWS's tools look for them")
        given: ReadOnlyCredentials = found.get_frozen_credentials()
        self._source = found if hasattr(found, "refresh_needed") else None
        return _Found(given, _expiry_of(found))

    def _renew_now(self) -> _Found:
        """Renew credentials that are due. Blocks: use a thread."""
        given: ReadOnlyCredentials = self._source.get_frozen_credentials()
        return _Found(given, _expiry_of(self._source))


def _expiry_of(source: Any) -> datetime | None:
    """Return when the credentials end that a source has given last; None for those that never do."""
    # botocore tells it nowhere else.
    expires = getattr(source, "_expiry_time", None)
    return expires if isinstance(expires, datetime) else None
