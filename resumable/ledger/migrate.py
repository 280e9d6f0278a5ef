"""Bringing the ledger's tables up to date with alembic.

This is a module of its own because alembic takes a third of a second to import. It is imported only where tables have
to change.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection


class TooNew(Exception):
    """The tables have a version that this program does not know."""


def upgrade(connection: Connection, scripts: Path, version: str) -> None:
    """Bring the tables to the version, in the connection's transaction.

    :param scripts: the folder of the migrations.
    :raises TooNew: a newer program has made them.
    """
    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, version)
    except CommandError:
        raise TooNew from None
