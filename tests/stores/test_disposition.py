"""Content-Disposition: what a browser saves a download as, whatever letters it has."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis.strategies import characters, text

from resumable.model import ObjectOptions
from resumable.stores.disposition import encode_disposition, is_disposition
from resumable.stores.s3.options import option_headers


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        ("inline", "inline"),
        ('attachment; filename="a b.pdf"', 'attachment; filename="a b.pdf"'),
        ("attachment; filename*=UTF-8''%C3%BC", "attachment; filename*=UTF-8''%C3%BC"),
        (
            'attachment; filename="Übung 1.pdf"',
            "attachment; filename=\"Ubung 1.pdf\"; filename*=UTF-8''%C3%9Cbung%201.pdf",
        ),
        (
            "attachment; filename=Übung 1.pdf",
            "attachment; filename=\"Ubung 1.pdf\"; filename*=UTF-8''%C3%9Cbung%201.pdf",
        ),
        ("attachment; filename=\"ü\"; filename*=UTF-8''own", "attachment; filename=\"u\"; filename*=UTF-8''own"),
        (
            'inline; FileName="日\\"本"; size=3',
            'inline; FileName="_\\"_"; FileName*=UTF-8\'\'%E6%97%A5%22%E6%9C%AC; size="3"',
        ),
        ("attachment; filename*=ü", "attachment; filename=\"u\"; filename*=UTF-8''%C3%BC"),
    ],
)
def test_file_names(said: str, sent: str) -> None:
    assert encode_disposition(said) == sent
    assert option_headers(ObjectOptions(content_disposition=said)) == {"Content-Disposition": sent}


@given(text(characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=60))
def test_any_file_name_comes_back(name: str) -> None:
    """By ``filename*`` where it is not ASCII; and the header is a header."""
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    said = f'attachment; filename="{escaped}"'
    assert is_disposition(said)
    sent = encode_disposition(said)
    assert sent.isascii()
    assert sent.isprintable()
    if not name.isascii():
        found = re.search(r"filename\*=UTF-8''(\S+)\Z", sent)
        assert found is not None
        assert unquote(found[1]) == name


@given(text(max_size=60))
def test_whatever_was_stored_can_be_sent(said: str) -> None:
    sent = encode_disposition(said)
    assert sent.isascii()
    assert sent == "" or sent.isprintable()
