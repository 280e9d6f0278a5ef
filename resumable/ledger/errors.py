"""What a database's errors mean: it may pass, the client's value cannot be kept, or somebody has to look after it.

PostgreSQL says it by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), SQLite by its result code
(https://www.sqlite.org/rescode.html). Python's classes of exceptions do not tell: what is too long for an index is the same
`OperationalError` as a server that is being restarted.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError


class Kind(Enum):
    """What to do about it."""

    #: Try again: a server that is away, or a transaction that lost against others.
    PASSING = "passing"
    #: The client gave a value that the database cannot hold.
    VALUE = "value"
    #: Trying again at once is of no use; the operator has to know.
    TROUBLE = "trouble"


#: SQLSTATEs, or their classes (two characters): connection exceptions, transactions that lost against others, a server that
#: only reads (it was the primary before a failover), a lock that was not to be had, too many connections or too little memory
#: for the moment, a server that is stopping or starting or that ended the statement.
_PASSING = ("08", "40", "25006", "53200", "53300", "55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05")
#: A value of the wrong kind (a character that the encoding lacks, a number out of range) or too long for an index or a row.
_VALUE = ("22", "54000", "54010", "54011")
#: The connection is of no use any more, though the server may not have closed it, nor are the others to the same server.
_LEAVE = ("08", "25006", "57P01", "57P02", "57P03", "57P05")

#: SQLite's result codes: the file, or its disc, was not what it should be. A file opened anew may be.
_REOPEN = frozenset({8, 10, 14, 26})  # READONLY, IOERR, CANTOPEN, NOTADB
#: A string or a blob that is too big.
_TOO_BIG = 18


def kind_of(error: Exception) -> Kind:
    """Sort an error of a transaction. What is no database's is neither passing nor, but for values, anything known."""
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        # The driver cannot even say it: a lone surrogate, an integer of more than 64 bits.
        return Kind.VALUE
    if not isinstance(error, DBAPIError):
        return Kind.TROUBLE
    if _is_sqlite(error.orig):
        return Kind.VALUE if _sqlite_code(error.orig) == _TOO_BIG else Kind.TROUBLE
    state = getattr(error.orig, "sqlstate", None)
    if error.connection_invalidated or _in(state, _PASSING):
        return Kind.PASSING
    if _in(state, _VALUE):
        return Kind.VALUE
    if state is None:
        # The driver's own: it did not get as far as the server, or found that a text has a NUL.
        passing = isinstance(error, (OperationalError, InterfaceError))
        return Kind.PASSING if passing else Kind.VALUE if type(error.orig).__name__ == "DataError" else Kind.TROUBLE
    return Kind.TROUBLE


def code_of(error: Exception) -> str:
    """What the database calls it, whatever table or file it is about; empty: nothing."""
    driver = getattr(error, "orig", None)
    return str(getattr(driver, "sqlstate", None) or _sqlite_code(driver) or "") if driver is not None else ""


def leave_what_is_lost(context: ExceptionContext) -> None:
    """SQLAlchemy's ``handle_error``: connections that are of no use any more are not given out again.

    A server that was the primary goes on answering after a failover, and says that it only reads; the pool has to be told.
    """
    error = context.original_exception
    if _is_sqlite(error):
        context.is_disconnect = context.is_disconnect or (_sqlite_code(error) or 0) in _REOPEN
    elif _in(getattr(error, "sqlstate", None), _LEAVE):
        context.is_disconnect = True


def _in(state: Any, those: tuple[str, ...]) -> bool:
    return isinstance(state, str) and state.startswith(those)


def _is_sqlite(error: Any) -> bool:
    return type(error).__module__.startswith("sqlite3")


#: By its words, where Python (before 3.11) does not tell the number.
_WORDS = {
    "attempt to write a readonly database": 8,
    "disk I/O error": 10,
    "unable to open database file": 14,
    "file is not a database": 26,
    "string or blob too big": _TOO_BIG,
}


def _sqlite_code(error: Any) -> int | None:
    """The result code, without what extends it."""
    code = getattr(error, "sqlite_errorcode", None)
    return _WORDS.get(str(error)) if code is None else int(code) & 0xFF
