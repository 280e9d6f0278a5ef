"""What stores refuse until the operator mends something: uploads wait for that, and the operator is told, but not too often."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from resumable.stores.port import Misconfigured, StoreError

#: Seconds for which a refusal is told to those who ask whether the store can be used. Nothing else ends it where nobody
#: sends uploads any more, because the service is said not to be ready.
FRESH = 30.0
#: Seconds after which a refusal that goes on is logged again, and how many are remembered for that.
AGAIN = 600.0
MOST = 1000


class OperatorFaults:
    """What a store refuses because of how it was set up: logged once and not for each request, and told while it lasts.

    :param clock: for `FRESH` and `AGAIN`.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        #: By bucket and code, when it was logged.
        self._logged: dict[tuple[str, str], float] = {}
        #: By bucket, what its uploads are refused for, and when that was said last.
        self._standing: dict[str, tuple[str, float]] = {}

    def refused(self, bucket: str, error: StoreError, upload_id: str) -> None:
        """Note a refusal."""
        now, code = self._clock.seconds(), error.code[:64]
        if isinstance(error, Misconfigured) and error.everybody:
            self._standing[bucket] = (code, now)
        logged = self._logged.get((bucket, code))
        if logged is None or now - logged >= AGAIN:
            if len(self._logged) >= MOST:
                self._logged.clear()
            self._logged[bucket, code] = now
            what = {"error": str(error), "bucket": bucket, "id": upload_id}
            self._log.error("store refused: {error} (bucket {bucket}, upload {id}, and maybe others)", **what)

    def granted(self, bucket: str) -> None:
        """Note that the bucket takes uploads: the next refusal is news."""
        if self._standing and self._standing.pop(bucket, None) is not None:
            self._log.info("the store takes uploads to bucket {bucket} again", bucket=bucket)

    def check(self, bucket: str) -> None:
        """Do nothing if the bucket can be written, as far as is known.

        :raises Misconfigured: the store has said a moment ago that nobody's upload can be stored there.
        """
        code, at = self._standing.get(bucket, ("", 0.0))
        if code and self._clock.seconds() - at < FRESH:
            raise Misconfigured(code, "what was to be stored was refused", everybody=True)
