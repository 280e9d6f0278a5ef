"""Which file goes to which URL: names, folders, and what in a folder is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from urllib.parse import quote, urlsplit

from attrs import frozen

from resumable.client.errors import Failed

#: Stands for standard input.
STDIN = "-"
#: Where the service takes uploads, for a URL that says no more than where the service is.
ROOT = "/upload/"


@frozen
class Target:
    """A file and its URL.

    :ivar file: its path as it was given, with what is below a folder; ``-`` for standard input.
    """

    file: str
    url: str


def targets(files: Sequence[str], url: str) -> Iterator[Target]:
    """Return what the files and folders on a command line are, and where each goes.

    A folder's files keep the folder's name and the path below it. Links to files are followed. Links to folders are
    followed only where they are named themselves: below a folder they could lead round in a circle.

    :param url: ends with a slash if it is a folder.
    :raises Failed: they do not fit together, or one is not there; while they are gone through: two have the same URL.
    """
    url = _with_root(url)
    for file in files:
        if file != STDIN and not os.path.exists(file):
            raise Failed(f"{file}: there is no such file")
    if not is_folder(url):
        if len(files) > 1:
            raise Failed("several files need a URL that ends with /")
        if files[0] != STDIN and os.path.isdir(files[0]):
            raise Failed(f"{files[0]}: a folder needs a URL that ends with /")
        return iter([Target(files[0], url)])
    if STDIN in files:
        raise Failed("standard input has no name: name the upload in the URL")
    return _each_alone(_below(files, url))


def _each_alone(found: Iterator[Target]) -> Iterator[Target]:
    """Return the targets, none of which may take the place of another one.

    :raises Failed: two have the same URL.
    """
    taken: dict[str, str] = {}
    for target in found:
        if target.url in taken:
            both = f"{taken[target.url]} and {target.file}"
            raise Failed(f"{both} would have the same name: upload them to different folders")
        taken[target.url] = target.file
        yield target


def _below(files: Sequence[str], url: str) -> Iterator[Target]:
    for file in files:
        name = os.path.basename(os.path.abspath(file))
        if os.path.isdir(file):
            for path in walk(file):
                inner = os.path.relpath(path, file).split(os.sep)
                yield Target(path, below(url, [*([name] if name else []), *inner]))
        else:
            yield Target(file, below(url, [name]))


def walk(folder: str) -> Iterator[str]:
    """Return the files below a folder, in the order of their names. Folders that are links are left out.

    :raises Failed: a folder cannot be read.
    """
    # Not by recursion: a folder may be deeper than Python's stack.
    left = [_entries(folder)]
    while left:
        entry = next(left[-1], None)
        if entry is None:
            left.pop()
        elif entry.is_dir(follow_symlinks=False):
            left.append(_entries(entry.path))
        elif not _leads_to_folder(entry):
            yield entry.path


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        return iter(sorted(os.scandir(folder), key=lambda entry: entry.name))
    except OSError as error:
        raise Failed(f"{folder}: {error.strerror or error}") from None


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link in a circle, or to where one may not look: whoever opens it says so.
        return False


def is_folder(url: str) -> bool:
    """Say whether a URL is one that files go below."""
    return urlsplit(url).path.endswith("/")


def below(url: str, segments: Sequence[str]) -> str:
    """Return the URL of a name below a folder's; a query stays at the end."""
    parts = urlsplit(url)
    name = "/".join(quote(os.fsencode(segment), safe="") for segment in segments)
    return parts._replace(path=parts.path + name).geturl()


def _with_root(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise Failed("the URL has to be of the form http://HOST/upload/NAME") from None
    return parts._replace(path=ROOT).geturl() if parts.path in ("", "/") else url
