"""HTTP with XML documents, as Amazon S3, what speaks like it, and Google's XML API have it in common."""
