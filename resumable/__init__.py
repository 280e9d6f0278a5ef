"""Resumable uploads, streamed straight into S3."""
