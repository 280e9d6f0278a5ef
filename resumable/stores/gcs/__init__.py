"""The store ``gcs``: Google Cloud Storage over its XML API, and over its JSON API for what the XML API cannot do."""
