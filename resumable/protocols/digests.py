"""Digests on the wire: ``Content-Digest`` and ``Repr-Digest`` (RFC 9530), and what came before: ``Digest`` and ``Content-MD5``.

A field that is malformed says nothing (RFC 9530, 2; RFC 8941, 4.2), and neither does an algorithm that is not known here.
Whatever else is said is checked, or the request is refused.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from attrs import evolve
from http_sfv.dictionary import Dictionary
from twisted.web.http_headers import Headers

from resumable.model import Invalid
from resumable.protocols.messages import Request
from resumable.protocols.response import Response
from resumable.uploads.digest import HASHES, IN_TRAILERS, BodyDigest, Digests, ExpectedDigests, joined
from resumable.uploads.expected import said_digests
from resumable.uploads.result import Report

CONTENT, REPR = b"content-digest", b"repr-digest"
#: What pages of other origins may send and read (`resumable.protocols.base.Spoken`).
SENT = ("Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "Want-Repr-Digest", "Want-Content-Digest")
READ = ("Repr-Digest", "Content-Digest")
#: Bytes of each digest, by the names of `HASHES` that these fields may have.
SIZES = {"sha-256": 32, "sha-512": 64, "sha": 20, "md5": 16, "crc32c": 4}
#: The most bytes of a field that are read. Nobody has so many digests.
MOST = 4096
#: In which order an answer's digest is chosen where its client likes several alike.
STRONGEST = ("sha-512", "sha-256", "crc32c", "md5", "sha")

_HEX = re.compile(r"[0-9a-fA-F]{8}", re.ASCII)


def digests_of(request: Request) -> Digests:
    """Return what a request says of digests.

    :raises Invalid: it says a digest that no bytes can have.
    """
    trailing = _announced(request)
    if not (trailing or _says_any(request.requestHeaders)):
        return _NOTHING
    said = digests_in(request.requestHeaders)
    body: BodyDigest | None = None
    if CONTENT in trailing:
        hashes = {name: HASHES[name]() for name in IN_TRAILERS}
        body = ExpectedDigests(_reader(request, CONTENT), hashes)
    return evolve(said, body=joined([said.body, body]), trailing=_reader(request, REPR) if REPR in trailing else None)


def digests_in(headers: Headers) -> Digests:
    """Return what the headers of a body, or of a part of one, say of digests. Errors as `digests_of`."""
    if not _says_any(headers):
        return _NOTHING
    found = [
        parse_digests(headers.getRawHeaders(CONTENT, [])),
        parse_legacy(headers.getRawHeaders(b"digest", [])),
        parse_md5(headers.getRawHeaders(b"content-md5", [])),
    ]
    whole = _checked(parse_digests(headers.getRawHeaders(REPR, [])))
    return Digests(joined(ExpectedDigests.of(_checked(each)) for each in found if each), whole)


def refuse_body_digest(request: Request) -> None:
    """Refuse a digest of a body that has several parts, of which each is finished before the body's end.

    :raises Invalid: there is one.
    """
    if digests_of(request).told:
        raise Invalid("a digest of a body with several parts cannot be checked here: say it in the part of the file")


def _says_any(headers: Headers) -> bool:
    return any(headers.hasHeader(name) for name in (CONTENT, REPR, b"digest", b"content-md5"))


def _announced(request: Request) -> list[bytes]:
    """Return which of the fields are announced as trailers of the body (RFC 9110, 6.6.2)."""
    lines = request.requestHeaders.getRawHeaders(b"trailer", [])
    if not lines or request.length is not None:
        return []
    names = {name.strip() for name in b",".join(lines).lower().split(b",")}
    return [name for name in (CONTENT, REPR) if name in names]


def _reader(request: Request, name: bytes) -> Callable[[], Mapping[str, bytes]]:
    """Return what reads an announced trailer once the body has come."""

    def read() -> Mapping[str, bytes]:
        lines = request.trailers.getRawHeaders(name, [])
        if not lines:
            raise Invalid(f"{name.decode().title()} was announced as a trailer, and did not come")
        said = parse_digests(lines)
        return _checked({algorithm: digest for algorithm, digest in said.items() if algorithm in IN_TRAILERS})

    return read


def _checked(said: Mapping[str, bytes]) -> dict[str, bytes]:
    for name, digest in said.items():
        if len(digest) != SIZES[name]:
            raise Invalid(f"a digest of the algorithm {name} has {SIZES[name]} bytes, not {len(digest)}")
    return dict(said)


# Parsing: pure


def parse_digests(lines: Sequence[bytes]) -> dict[str, bytes]:
    """Return the digests of a ``Content-Digest`` or ``Repr-Digest``, of the algorithms that are known."""
    found = parse_dictionary(lines)
    return {name: value for name, value in found.items() if name in SIZES and isinstance(value, bytes)}


def parse_dictionary(lines: Sequence[bytes]) -> dict[str, Any]:
    """Return the keys and bare values of a structured field that is a dictionary (RFC 8941, 3.2); nothing if it is none."""
    field, found = b", ".join(lines), Dictionary()
    if not field or len(field) > MOST:
        return {}
    try:
        found.parse(field)
    except (ValueError, RecursionError):
        return {}
    # (An inner list has no one value.)
    return {name: getattr(item, "value", None) for name, item in found.items()}


def parse_legacy(lines: Sequence[bytes]) -> dict[str, bytes]:
    """Return the digests of a ``Digest`` (RFC 3230, 4.3.2; RFC 5843), of the algorithms that are known.

    What is said of an algorithm twice is not compared: the last counts.
    """
    field = b",".join(lines)
    if len(field) > MOST:
        return {}
    found = {}
    for instance in field.decode("latin-1").split(","):
        name, _, text = (part.strip() for part in instance.partition("="))
        name = name.lower()
        digest = _decoded(text, hexadecimal=name == "crc32c") if name in SIZES else None
        if digest is not None:
            found[name] = digest
    return found


def parse_md5(lines: Sequence[bytes]) -> dict[str, bytes]:
    """Return the digest of a ``Content-MD5`` (RFC 2616, 14.15)."""
    digest = _decoded(lines[-1].decode("latin-1").strip()) if lines else None
    return {} if digest is None else {"md5": digest}


def _decoded(text: str, *, hexadecimal: bool = False) -> bytes | None:
    """Return what is encoded in base64, or a CRC32C in hexadecimal; None if it is neither."""
    if hexadecimal and _HEX.fullmatch(text):
        return unhexlify(text)
    try:
        return b64decode(text, validate=True) or None
    except (NotBase64, ValueError):
        return None


# Answers


def with_digests(request: Request, report: Report, response: Response) -> Response:
    """Return the last answer with the digests that its client wants of the object, as far as they are known.

    ``Want-Repr-Digest`` asks for those of the object, ``Want-Content-Digest`` for one of the answer's own body (RFC 9530, 4).
    """
    if not report.finished:
        return response
    headers = request.requestHeaders
    more: list[tuple[str, str]] = []
    wanted = _wanted(headers, b"want-repr-digest")
    if wanted:
        known = known_digests(report)
        shown = [f"{name}=:{b64encode(known[name]).decode('ascii')}:" for name in wanted if name in known]
        more += [("Repr-Digest", ", ".join(shown))] if shown else []
    wanted = _wanted(headers, b"want-content-digest")
    if wanted:
        running = HASHES[wanted[0]]()
        running.update(response.body)
        more.append(("Content-Digest", f"{wanted[0]}=:{b64encode(running.digest()).decode('ascii')}:"))
    return evolve(response, headers=(*response.headers, *more)) if more else response


def known_digests(report: Report) -> dict[str, bytes]:
    """Return the digests of a finished upload's object. They were compared with its bytes before it was finished."""
    upload = report.upload
    crc32c = {} if upload.crc32c is None else {"crc32c": upload.crc32c.to_bytes(4, "big")}
    return {**crc32c, **said_digests(upload)}


def _wanted(headers: Headers, name: bytes) -> list[str]:
    """Return the known algorithms that a client wants, the best liked first; ``0`` is one that it does not take."""
    said = parse_dictionary(headers.getRawHeaders(name, []))
    weights = {key: value for key, value in said.items() if key in SIZES and type(value) is int and 0 < value <= 10}
    return sorted(weights, key=lambda key: (-weights[key], STRONGEST.index(key)))


_NOTHING = Digests()
