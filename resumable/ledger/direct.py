"""Statements that go straight to the driver.

SQLAlchemy writes the SQL of a statement once. But it looks for that SQL at each execution, and wraps what goes to the driver
and what comes back. For the small statements that every upload needs this takes several times as long as the database. Here
the driver is given the SQL that was written once. What its types are converted by, and what its errors mean, is
SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NoReturn

from attrs import frozen
from sqlalchemy import Connection
from sqlalchemy.engine import Dialect

Row = dict[str, Any]
_Convert = Callable[[Any], Any]


@frozen
class Outcome:
    """What came of a statement.

    :ivar rows: what it returns, by the columns' names.
    :ivar count: how many rows it has changed, as the driver tells.
    """

    rows: list[Row]
    count: int

    def first(self) -> Row | None:
        """Return the first row, or None."""
        return self.rows[0] if self.rows else None


def run(connection: Connection, statement: Any, given: Mapping[str, Any]) -> Outcome:
    """Execute a statement of SQLAlchemy's in the connection's transaction.

    :param statement: one that is kept and used again, since its SQL is kept for good.
    :param given: all parameters by name. Those that the statement does not have are ignored.
    :raises DBAPIError: as SQLAlchemy's own execution does.
    """
    return _written(statement, connection.dialect, tuple(given)).execute(connection, given)


def command(connection: Connection, sql: str) -> None:
    """Execute SQL that has no parameters and returns nothing. Errors as of `run`."""
    _execute(connection, sql, ()).close()


def _execute(connection: Connection, sql: str, parameters: Any) -> Any:
    """Return the driver's cursor after the execution."""
    cursor: Any = None
    try:
        cursor = connection.connection.cursor()
        cursor.execute(sql, parameters)
    except connection.dialect.loaded_dbapi.Error as error:
        _raise(connection, error, sql, cursor)
    except BaseException:
        # An open cursor keeps what the connection reads as it was then, for as long as somebody has the error.
        if cursor is not None:
            cursor.close()
        raise
    return cursor


def _raise(connection: Connection, error: Any, sql: str, cursor: Any) -> NoReturn:
    """Raise SQLAlchemy's own error, in its way.

    Listeners are told, and the cursor is closed, or a connection that is lost is dropped with it.
    """
    connection._handle_dbapi_exception(error, sql, None, cursor, None)


@cache
def _written(statement: Any, dialect: Dialect, names: tuple[str, ...]) -> _Written:
    return _Written(statement, dialect, names)


class _Written:
    """A statement's SQL, and how its parameters and its rows are converted.

    :param names: the parameters' names. An INSERT without values has those for its columns.
    """

    def __init__(self, statement: Any, dialect: Dialect, names: tuple[str, ...]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=names)
        # A list that the statement itself has becomes a parameter for each of its values.
        state = compiled.construct_expanded_state(dict.fromkeys(names))
        self._sql: str = state.statement
        self._by_name = state.positiontup is None
        self._names: tuple[str, ...] = tuple(state.parameters if state.positiontup is None else state.positiontup)
        #: What the statement itself has, converted.
        self._own: dict[str, Any] = {}
        #: What converts that which is given, where it has to be.
        self._convert: list[tuple[str, _Convert]] = []
        for name in self._names:
            bind = compiled.binds.get(name)
            convert = None if bind is None else bind.type.dialect_impl(dialect).bind_processor(dialect)
            if name not in names:
                value = state.parameters[name]
                self._own[name] = value if convert is None else convert(value)
            elif convert is not None:
                self._convert.append((name, convert))
        self._columns = list(statement.exported_columns)
        #: What it returns: names, and what converts a value, where it has to be. The first rows say what the driver makes
        #: of their types.
        self._shape: tuple[list[str], list[tuple[str, _Convert]]] | None = None

    def execute(self, connection: Connection, given: Mapping[str, Any]) -> Outcome:
        """Execute it. Parameters and errors as of `run`."""
        values = {**given, **self._own}
        for name, convert in self._convert:
            values[name] = convert(values[name])
        parameters = values if self._by_name else [values[name] for name in self._names]
        cursor = _execute(connection, self._sql, parameters)
        try:
            found = cursor.fetchall() if self._columns else []
        except connection.dialect.loaded_dbapi.Error as error:
            _raise(connection, error, self._sql, cursor)
        except BaseException:
            cursor.close()
            raise
        if found and self._shape is None:
            self._shape = self._read_shape(connection.dialect, cursor.description)
        outcome = Outcome(self._as_rows(found), cursor.rowcount)
        cursor.close()
        return outcome

    def _as_rows(self, found: list[Any]) -> list[Row]:
        if self._shape is None:
            return []
        names, converts = self._shape
        rows = [dict(zip(names, row, strict=True)) for row in found]
        for row in rows:
            for name, convert in converts:
                row[name] = convert(row[name])
        return rows

    def _read_shape(self, dialect: Dialect, description: Any) -> tuple[list[str], list[tuple[str, _Convert]]]:
        """Return the names of the columns, and those that are to be converted, given what the driver says of them."""
        converts = []
        for column, told in zip(self._columns, description, strict=True):
            convert = column.type.dialect_impl(dialect).result_processor(dialect, told[1])
            if convert is not None:
                converts.append((column.name, convert))
        return [column.name for column in self._columns], converts
