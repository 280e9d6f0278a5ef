"""All servers, in the order of the tables."""

from __future__ import annotations

from collections.abc import Mapping

from bench.servers.nginx import Nginx, NginxBothTls, NginxLargeBuffers, NginxStoreTls, NginxTls
from bench.servers.peers import Tusd, TusdBothTls, TusdStoreTls, TusdTls, TusNode, TusNodeStoreTls, Uploadx
from bench.servers.resumable import (
    Resumable,
    ResumableBothTls,
    ResumableGoogle,
    ResumableLargeChunks,
    ResumablePostgres,
    ResumableStoreTls,
    ResumableStoreTlsLargeChunks,
    ResumableTls,
    ResumableTus,
    ResumableTwoWorkers,
    ResumableWithoutChecksums,
)
from bench.servers.server import Server

SERVERS: Mapping[str, type[Server]] = {
    kind.name: kind
    for kind in (
        Nginx,
        NginxLargeBuffers,
        Resumable,
        ResumableTus,
        ResumableGoogle,
        ResumableTwoWorkers,
        ResumablePostgres,
        ResumableWithoutChecksums,
        ResumableLargeChunks,
        Tusd,
        TusNode,
        Uploadx,
        NginxTls,
        ResumableTls,
        TusdTls,
        NginxStoreTls,
        ResumableStoreTls,
        ResumableStoreTlsLargeChunks,
        TusdStoreTls,
        TusNodeStoreTls,
        NginxBothTls,
        ResumableBothTls,
        TusdBothTls,
    )
}
