"""The parser of multipart bodies: the same parts wherever the network cuts, whatever looks like a boundary, and soon."""

from __future__ import annotations

import re
import time
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resumable.model import Invalid
from resumable.protocols.multipart_events import MultipartEvents, PartEnd, PartHead
from resumable.protocols.parameters import last_segment, read_file_name, read_parameters


def parsed(
    segments: list[bytes], boundary: bytes = b"b", *, closed: bool = True
) -> list[tuple[str | None, str | None, bytes]]:
    """Name, file name and bytes of each part."""
    parser = MultipartEvents(boundary, 100)
    for segment in segments:
        parser.write(segment)
    assert parser.closed is closed
    found: list[tuple[str | None, str | None, bytes]] = []
    ends = 0
    for event in parser.events:
        if isinstance(event, PartHead):
            found.append((event.name, event.filename, b""))
        elif isinstance(event, bytes):
            assert event
            name, filename, data = found[-1]
            found[-1] = (name, filename, data + event)
            parser.waiting -= len(event)
        else:
            assert isinstance(event, PartEnd)
            ends += 1
    assert parser.waiting == 0
    assert ends == len(found) - (not closed)
    return found


def every_cut(body: bytes, boundary: bytes = b"b") -> list[tuple[str | None, str | None, bytes]]:
    """The parts, which are the same when the body is cut anywhere in two, and when it comes byte by byte."""
    whole = parsed([body], boundary)
    assert parsed([body[at : at + 1] for at in range(len(body))], boundary) == whole
    for cut in range(len(body)):
        assert parsed([body[:cut], body[cut:]], boundary) == whole, cut
    return whole


#: What looks like the beginning of a boundary's line, or is an end of one.
FRAGMENTS = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b"-", b"--", b"b", b"--b", b"\r\n--b", b"\n--b", b" ", b"x", b"\r\n--bx"]
)


@given(
    st.lists(st.lists(FRAGMENTS, max_size=12).map(b"".join), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=20),
    st.sampled_from([b"\r\n", b"\n"]),
    st.sampled_from([b"", b"preamble\r\n", b"\r\n", b"--bx\n"]),
    st.sampled_from([b"", b"\r\n", b"\r\n--b\r\n\r\nepilogue"]),
)
def test_whatever_the_data_is(
    contents: list[bytes], cuts: list[int], end: bytes, preamble: bytes, epilogue: bytes
) -> None:
    """Boundary-like bytes within the data are data, unless they are a boundary's line."""
    line = re.compile(re.escape(end + b"--b") + rb"(?:--|[ \t]{0,16}" + end + b")")
    contents = [content for content in contents if not line.search(end + content + end)]
    head = end + b'Content-Disposition: form-data; name="n"; filename="f"' + end + end
    body = preamble + b"".join(b"--b" + head + content + end for content in contents) + b"--b--" + epilogue
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    came = parsed([body[first:last] for first, last in pairwise(edges)])
    assert came == [("n", "f", content) for content in contents]
    assert parsed([body[at : at + 1] for at in range(len(body))]) == came


def test_preamble_and_epilogue() -> None:
    body = b"text\r\n--box\r\n --b\r\n--b \t\r\na: b\r\n\r\n1\r\n--b--\r\ntext\r\n--b\r\n\r\n2"
    assert every_cut(body) == [(None, None, b"1")]


def test_empty_parts() -> None:
    """With headers and without; and the empty line may be that before the boundary (RFC 2046: a body-part without a body)."""
    full = b"--b\r\na: b\r\n\r\n\r\n--b\r\n\r\n\r\n--b--"
    short = b"--b\r\na: b\r\n\r\n--b\r\n\r\n--b--"
    assert every_cut(full) == every_cut(short) == [(None, None, b"")] * 2
    assert every_cut(b"--b--") == []


def test_what_the_email_package_writes() -> None:
    """Bare LF, as google-api-python-client sends it. A CR is data there, even at the end."""
    message = MIMEMultipart("related", boundary="===b")
    message.attach(MIMEText('{"name": "n"}', "json"))
    message.attach(MIMEApplication(b"DATA", "octet-stream", lambda _: None))
    _, _, body = message.as_bytes().replace(b"DATA", b"\0\r\r\n--===bx\r").partition(b"\n\n")
    assert b"\r\n--===b\n" not in body
    (_, _, first), (_, _, second) = every_cut(body, b"===b")
    assert first == b'{"name": "n"}'
    assert second == b"\0\r\r\n--===bx\r"


def test_a_body_without_its_end() -> None:
    assert parsed([b"--b\r\n\r\n1\r\n--b-"], closed=False) == [(None, None, b"1")]


def test_folded_headers() -> None:
    body = b'--b\r\nContent-Disposition: form-data;\r\n name="n";\r\n\tfilename="f"\r\n\r\n1\r\n--b--'
    assert every_cut(body) == [("n", "f", b"1")]


@pytest.mark.parametrize("headers", [b"a", b": b", b"a b: c", b" a: b", b"a: b\rc", b"a: b\nc: d", b"a: \0"])
def test_malformed_headers(headers: bytes) -> None:
    with pytest.raises(Invalid):
        parsed([b"--b\r\n" + headers + b"\r\n\r\n1\r\n--b--"])


@pytest.mark.parametrize("unit", [b"\r\n--bx", b"\r\n--b x", b"\r", b"\r\n", b"x--b", b"\r\n--b\r"])
def test_a_body_full_of_what_is_no_boundary(unit: bytes) -> None:
    """Nobody else is served while a segment is searched. (A parser in Python needs a second for one of these.)"""
    segment = unit * ((3 << 20) // len(unit))
    began = time.process_time()
    came = parsed([b"--b\r\n\r\n", segment, b"x\r\n--b--"])
    assert time.process_time() - began < 0.5
    assert came == [(None, None, segment + b"x")]


@pytest.mark.parametrize("before", [b"", b"--b\r\n"])
@pytest.mark.parametrize("unit", [b"a", b"\n", b"\n--b "])
def test_what_comes_before_the_data_byte_by_byte(before: bytes, unit: bytes) -> None:
    """A byte costs the same wherever it stands: what has come before it is not searched again."""
    lines = before.replace(b"b", b"b" * 70) + unit * (7000 // len(unit))
    parser = MultipartEvents(b"b" * 70, 100)
    began = time.process_time()
    for at in range(len(lines)):
        parser.write(lines[at : at + 1])
    assert time.process_time() - began < 0.25


def test_too_many_lines_of_headers_byte_by_byte() -> None:
    """As many as in one segment, and as early."""
    headers = b"a: b\r\n" * 17
    parser = MultipartEvents(b"b", 100)
    parser.write(b"--b\r\n")
    for at in range(len(headers) - 1):
        parser.write(headers[at : at + 1])
    with pytest.raises(Invalid, match="16 lines"):
        parser.write(headers[-1:])


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ('form-data; name="f"; filename="a;b.txt"', "a;b.txt"),
        ('form-data; name="f"; FileName="a.txt"', "a.txt"),
        ("form-data; name=f; filename=a b.txt", "a b.txt"),
        (r'form-data; filename="a\"b\\c"', 'a"b\\c'),
        (r'form-data; filename="C:\new\film.mp4"', r"C:\new\film.mp4"),
        ('form-data; filename=""', ""),
        ("form-data; name=f", None),
        ("form-data; filename=\"plain\"; filename*=UTF-8''na%C3%AFve.txt", "naïve.txt"),
        ("form-data; filename*=utf-8'en'a%2Fb", "a/b"),
        ("form-data; filename*=iso-8859-1''%E4", "ä"),
        ("form-data; filename*=utf-8''%E4; filename=a", "a"),
        ("form-data; filename*=koi8-r''%E4; filename=a", "a"),
        ("form-data; filename*=nonsense; filename=a", "a"),
        ('form-data; filename="unended', '"unended'),
        ("", None),
    ],
)
def test_file_names(value: str, wanted: str | None) -> None:
    assert read_file_name(read_parameters(value)[1]) == wanted


@pytest.mark.parametrize("name", ["a.txt", "/etc/a.txt", r"C:\new\a.txt", r"..\../a.txt", "dir/a.txt"])
def test_last_segment(name: str) -> None:
    assert last_segment(name) == "a.txt"


def test_a_quotation_mark_in_a_name() -> None:
    body = b'--b\r\nContent-Disposition: form-data; name="%22n%22"; filename="100%25 %22f%22"\r\n\r\n1\r\n--b--'
    assert parsed([body]) == [('"n"', '100%25 "f"', b"1")]
