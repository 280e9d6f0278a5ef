"""How a database's URL is read: as by SQLAlchemy, but with several hosts as in PostgreSQL's own URLs."""

from __future__ import annotations

import re

from sqlalchemy import URL
from sqlalchemy.engine import make_url

#: ``postgresql://USER@HOST1,HOST2:PORT/DB``; SQLAlchemy takes several hosts in the query only.
_HOST = r"(?:[\w.-]+|\[[^]]*\])(?::\d+)?"
_HOSTS = re.compile(
    rf"(?P<before>postgresql(?:\+\w+)?://(?:[^@]*@)?)(?P<hosts>{_HOST}(?:,{_HOST})+)(?P<after>(?:[/?].*)?)", re.DOTALL
)
_PORT = "5432"


def read_database_url(text: str) -> URL:
    """Return the URL; several hosts are put into the query, where SQLAlchemy takes them.

    :raises ArgumentError: the text is not a URL.
    :raises ValueError: a port is not a number.
    """
    found = _HOSTS.fullmatch(text)
    if found is None:
        return make_url(text)
    pairs = [_host_and_port(one) for one in found["hosts"].split(",")]
    query = {"host": ",".join(host for host, _ in pairs), "port": ",".join(port for _, port in pairs)}
    return make_url(found["before"] + found["after"]).update_query_dict(query)


def _host_and_port(text: str) -> tuple[str, str]:
    """Return host and port of ``HOST``, ``HOST:PORT``, ``[IPV6]`` or ``[IPV6]:PORT``."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        return text.strip("[]"), _PORT
    return host.strip("[]"), port
