"""What a database's errors mean: the trouble may pass, the client's value cannot be stored, or the operator has to act.

PostgreSQL tells it by SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html), SQLite by its result
code (https://www.sqlite.org/rescode.html). Python's exception classes are not enough: a value that is too long for an
index raises the same `OperationalError` as a server that is being restarted.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError


class Kind(Enum):
    """What to do about an error."""

    #: Try again: the server is away, or the transaction lost against others.
    PASSING = "passing"
    #: The client gave a value that the database cannot hold.
    VALUE = "value"
    #: Trying again at once does not help; the operator has to know.
    TROUBLE = "trouble"


#: SQLSTATEs, or their classes (two characters), of what may pass: connection exceptions, transactions that lost against
#: others, a read-only server (it was the primary before a failover), a lock that somebody else holds, too many
#: connections, too little memory, a server that is stopping or starting, or one that cancelled the statement.
_PASSING = ("08", "40", "25006", "53200", "53300", "55006", "55P03", "57014", "57P01", "57P02", "57P03", "57P05")
#: Transactions that lost against others: the database works.
LOST = frozenset({"40001", "40P01", "55P03", "57014"})
#: Values that cannot be stored: a character that the encoding lacks, a number out of range, a text too long for an
#: index.
_VALUE = ("22", "54000", "54010", "54011")
#: After these neither this connection nor any other to the same server is of use, even if the server has not closed it.
_LEAVE = ("08", "25006", "57P01", "57P02", "57P03", "57P05")

#: SQLite's result codes for trouble with the file or its disc, which opening the file anew may mend.
_REOPEN = frozenset({8, 10, 14, 26})  # READONLY, IOERR, CANTOPEN, NOTADB
#: SQLite's result code for a string or blob that is too big.
_TOO_BIG = 18


def kind_of(error: Exception) -> Kind:
    """Return what to do about an error of a transaction.

    Errors that are not the database's count as trouble, or as a value.
    """
    if isinstance(error, (UnicodeEncodeError, OverflowError)):
        # The driver cannot even send the value: a lone surrogate, or an integer of more than 64 bits.
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
        # The driver's own error: it did not reach the server, or found a NUL in a text.
        passing = isinstance(error, (OperationalError, InterfaceError))
        return Kind.PASSING if passing else Kind.VALUE if type(error.orig).__name__ == "DataError" else Kind.TROUBLE
    return Kind.TROUBLE


def code_of(error: Exception) -> str:
    """Return the database's code for the error, without details such as a table's name; empty if it has none."""
    driver = getattr(error, "orig", None)
    return str(getattr(driver, "sqlstate", None) or _sqlite_code(driver) or "") if driver is not None else ""


def leave_what_is_lost(context: ExceptionContext) -> None:
    """Drop connections that are of no use any more. Listens to SQLAlchemy's event ``handle_error``.

    A server that was the primary still answers after a failover, but is read-only. The pool does not notice by itself.
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


#: SQLite's messages to their codes: Python before 3.11 does not give the code.
_WORDS = {
    "attempt to write a readonly database": 8,
    "disk I/O error": 10,
    "unable to open database file": 14,
    "file is not a database": 26,
    "string or blob too big": _TOO_BIG,
}


def _sqlite_code(error: Any) -> int | None:
    """Return the primary result code, without the bits of an extended one."""
    code = getattr(error, "sqlite_errorcode", None)
    return _WORDS.get(str(error)) if code is None else int(code) & 0xFF
