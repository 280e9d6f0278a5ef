"""XML documents that are sent."""

from __future__ import annotations

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def document(root: str, content: str) -> bytes:
    """Return the document with this root element.

    :param content: XML; whatever text is in it has been escaped.
    """
    return f'<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()
