"""Refusals that last until the operator mends something. Uploads wait, and the operator is told now and then."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.stores.port import Misconfigured, StoreError

#: Seconds for which a refusal counts when the store's health is asked for. It has to end by itself: a service that says
#: it is not ready may get no uploads, and only a stored upload would end it earlier.
FRESH = 30.0
#: Seconds after which a refusal that goes on is logged again, and how many refusals are remembered for that.
AGAIN = 600.0
MOST = 1000


class OperatorFaults:
    """Keeps refusals that are due to the store's set-up. Each is logged once, not for every request.

    :param clock: measures `FRESH` and `AGAIN`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: When a refusal was logged last, by bucket and error code.
        self._logged: dict[tuple[str, str], float] = {}
        #: The error code that a bucket's uploads are refused with, and when the store said so last, by bucket.
        self._standing: dict[str, tuple[str, float]] = {}

    def refused(self, bucket: str, error: StoreError, upload_id: str) -> None:
        """Note a refusal, and log it unless it was logged lately."""
        now, code = self._clock.seconds(), error.code[:64]
        if isinstance(error, Misconfigured) and error.everybody:
            self._standing[bucket] = (code, now)
        logged = self._logged.get((bucket, code))
        if logged is None or now - logged >= AGAIN:
            if len(self._logged) >= MOST:
                self._logged.clear()
            self._logged[bucket, code] = now
            needs = error.needs if isinstance(error, Misconfigured) else ""
            said = f"{error}; {needs} is missing" if needs else str(error)
            what = {"error": said, "bucket": bucket, "id": upload_id}
            self._log.error("store refused: {error} (bucket {bucket}, upload {id}, and maybe others)", **what)

    def granted(self, bucket: str) -> None:
        """Note that the bucket takes uploads: the next refusal is news."""
        if self._standing and self._standing.pop(bucket, None) is not None:
            self._log.info("the store takes uploads to bucket {bucket} again", bucket=bucket)

    def check(self, bucket: str) -> None:
        """Check that the bucket can be written, as far as is known.

        :raises Misconfigured: the store said within the last `FRESH` seconds that no upload can be stored there.
        """
        code, at = self._standing.get(bucket, ("", 0.0))
        if code and self._clock.seconds() - at < FRESH:
            raise Misconfigured(code, "an upload was refused a moment ago", everybody=True)
