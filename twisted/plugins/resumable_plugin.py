"""Makes ``twistd resumable`` known; nothing else is imported until it is run."""

from twisted.application.service import ServiceMaker

resumable = ServiceMaker(
    "resumable",
    "resumable.tap",
    "Takes uploads that may break off at any byte and streams them straight into S3.",
    "resumable",
)
