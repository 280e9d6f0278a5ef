"""An S3 that takes everything and keeps next to nothing, so that it is not what is measured."""
