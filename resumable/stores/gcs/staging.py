"""Where a multipart upload is made whose object must not replace another. Pure.

Google's multipart uploads know no preconditions. So the object is completed under a key of its own below the service's
prefix, and then moved. The multipart upload's id, as the port has it, says so: it carries what the key is made of.
"""

from __future__ import annotations

import re
from secrets import token_hex

from attrs import frozen

from resumable.stores.port import Misconfigured

#: What the ids of such multipart uploads begin with, and what their keys have after the service's prefix.
FOLDER = "staged"
_ID, _FOLDER = "staged:", f"{FOLDER}/"
#: The most bytes of a key.
_LONGEST = 1024
_ACL = re.compile(r"[A-Za-z-]{1,40}\Z")


@frozen
class Staged:
    """A multipart upload that is made elsewhere than under its object's key.

    :ivar word: tells it from others of the same object. It carries the canned ACL that the object is to have: while it
        is staged it has none, for nobody else is to read it.
    :ivar upload_id: as Cloud Storage has it; empty if only the object is known that was made by it.
    """

    word: str
    upload_id: str

    @property
    def multipart_id(self) -> str:
        """The id, as the port has it."""
        return f"{_ID}{self.word}:{self.upload_id}"

    @property
    def acl(self) -> str:
        """The canned ACL; empty for the bucket's own."""
        return self.word.partition(".")[2]


def new_word(acl: str | None) -> str:
    """Return a word that was never used before.

    :param acl: a canned ACL, if one is wanted.
    :raises Misconfigured: there is no such ACL.
    """
    check_acl(acl)
    return f"{token_hex(8)}.{acl}" if acl else token_hex(8)


def check_acl(acl: str | None) -> None:
    """See to it that a canned ACL, if there is one, has a name that it can have.

    :raises Misconfigured: it does not.
    """
    if acl and not _ACL.match(acl):
        raise Misconfigured("InvalidArgument", "the object option acl is not a canned ACL's name")


def parse_id(multipart_id: str) -> Staged | None:
    """Return what the id says; None if the multipart upload is made under its object's own key."""
    if not multipart_id.startswith(_ID):
        return None
    word, _, upload_id = multipart_id[len(_ID) :].partition(":")
    return Staged(word, upload_id)


def folder(prefix: str) -> str:
    """Return what staging keys begin with.

    :param prefix: what the service's own keys begin with.
    """
    return f"{prefix}{_FOLDER}"


def tells(prefix: str, word: str, key: str) -> bool:
    """Say whether the staging key has room for the final key, so that a listing tells it."""
    return len(f"{folder(prefix)}{word}/{key}".encode()) <= _LONGEST


def staging_key(prefix: str, word: str, key: str) -> str:
    """Return the key to make the object under."""
    return f"{folder(prefix)}{word}/{key}" if tells(prefix, word, key) else f"{folder(prefix)}{word}"


def parse_key(prefix: str, key: str) -> tuple[str, str] | None:
    """Return word and final key of a staging key; None for any other, and where the final key did not fit."""
    begin = folder(prefix)
    word, slash, final = key[len(begin) :].partition("/")
    return (word, final) if key.startswith(begin) and slash else None
