"""tus 1.0.0 (https://tus.io/protocols/resumable-upload): core, creation, creation-with-upload, creation-defer-length, expiration,
checksum, checksum-trailer and termination.
"""

from resumable.protocols.tus.protocol import NAME, TusProtocol

__all__ = ["NAME", "TusProtocol"]
