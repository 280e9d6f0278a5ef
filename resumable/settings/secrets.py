"""Texts that must not be shown."""

from __future__ import annotations

from resumable.database_url import read_database_url


class Secret:
    """A text that shows as ``***`` wherever it is printed; `reveal` gives it.

    Neither a str nor an attrs class, since formatting the one and ``attrs.asdict`` of the other would show it.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself; not for logs."""
        return self._text

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return str(self)


class SecretUrl(Secret):
    """A database URL that shows without its password; `reveal` gives it whole."""

    __slots__ = ()

    def __str__(self) -> str:
        url = read_database_url(self.reveal())
        hidden = {name: "hidden" for name in url.query if "password" in name.lower()}
        return url.update_query_dict(hidden).render_as_string(hide_password=True)
