"""Error codes: which may pass, and who is at fault for the others. Each kind of store has a table of its own."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from resumable.stores.port import AnswerTooLong, Misconfigured, Refused, StoreError, StoreVerdict
from resumable.stores.transport.exchange import TOO_LONG

#: Error codes that say that the store did not even begin with the request.
BUSY = frozenset({"SlowDown", "ServiceUnavailable"})
#: Error codes that may pass, and say nothing about the store: another request may go well at the same time.
OF_ONE_REQUEST = frozenset({"BadDigest", "CrcMismatch", "IncompleteBody", "InvalidDigest", "OperationAborted"})
#: Statuses that, even without an error document, mean that the operator has to mend something before the request can
#: succeed. The last three come from something in between that does not take a body, key or headers as large as these.
OPERATORS = frozenset({301, 307, 401, 403, 413, 414, 431})

#: Error codes, in lower case, that say with the status 403 that only a permission is missing.
DENIED = frozenset({"accessdenied", "forbidden"})

#: The error code that stands for a status when a refusal has no body (to HEAD).
BY_STATUS = {
    400: "BadRequest",
    403: "AccessDenied",
    404: "NotFound",
    409: "Conflict",
    412: "PreconditionFailed",
    429: "SlowDown",
    500: "InternalError",
    503: "ServiceUnavailable",
}


@frozen(kw_only=True)
class Codes:
    """What the error codes of one kind of store mean.

    :ivar transient: codes that may pass. So may every 5xx (but 501 and 505), 408 and 429, and any refusal that is not
        the store's own.
    :ivar expired: codes for credentials that have expired.
    :ivar rejected: codes for credentials that the store does not know. They may have been replaced where they came from.
    :ivar hidden: statuses of answers to HEAD, which has no document, that may mean such credentials.
    :ivar unauthorized: statuses that mean such credentials, whatever the document says.
    :ivar verdicts: codes that have a type of their own, if the store itself says them.
    :ivar client: codes -> the field of the upload that they complain of. The same request will never be accepted.
    :ivar never: codes that also mean that the request can never succeed, but for a reason that is not the client's.
    :ivar of_all: codes that are about the whole bucket or all requests. Others may be about a single upload, for which
        the main application chose a storage class or an ACL that the store does not know.
    :ivar of_all_prefix: what other such codes begin with.
    :ivar permissions: operations -> the permission that each needs.
    """

    transient: frozenset[str] = frozenset()
    expired: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    hidden: frozenset[int] = frozenset()
    unauthorized: frozenset[int] = frozenset()
    verdicts: Mapping[str, type[StoreVerdict]] = field(factory=dict)
    client: Mapping[str, str] = field(factory=dict)
    never: frozenset[str] = frozenset()
    of_all: frozenset[str] = frozenset()
    of_all_prefix: str = "\0"
    permissions: Mapping[str, str] = field(factory=dict)

    def needed(self, operation: str, error: StoreError) -> str:
        """Return the permission that is missing for the operation, if the error says that; else an empty text."""
        denied = error.status == 403 and error.code.lower() in DENIED
        return self.permissions.get(operation, "") if denied else ""

    def concerns_all(self, code: str) -> bool:
        """Return whether an error code says that no upload at all can be stored in the bucket."""
        return code in self.of_all or code.startswith(self.of_all_prefix)

    def refusal(self, code: str, message: str = "", status: int = 0, *, said: bool = False) -> StoreError:
        """Return the error of the right type for a refusal.

        Unknown codes count as something that the operator has to mend, so that the upload waits.

        :param said: whether the store's own error document has the code. If not, it tells nothing about what is stored.
        """
        if said and code in self.verdicts:
            return self.verdicts[code](code, message, status)
        at_fault = self.client.get(code)
        if said and (at_fault is not None or code in self.never):
            return Refused(code, message, status, field=at_fault)
        if code == TOO_LONG:
            return AnswerTooLong(code, message, status)
        return Misconfigured(code, message, status, said=said, everybody=self.concerns_all(code))


#: For failures that no store has spoken of.
UNSAID = Codes()
