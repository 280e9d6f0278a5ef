"""Resumable uploads, streamed straight into S3."""

#: The one place of the version; setup.py reads it here.
__version__ = "0.1.0"
