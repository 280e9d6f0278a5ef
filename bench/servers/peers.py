"""Servers of other projects, started as their documentation says: tus and uploadx on Node, and tusd."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.servers.server import Server

#: The folder of scripts and package.json. node_modules and tusd are expected where the README's commands put them.
PEERS = Path(__file__).parent.parent / "peers"


class NodePeer(Server):
    """A script in `PEERS`, run by Node."""

    script: str
    package: str

    @classmethod
    def missing(cls) -> str | None:
        if not shutil.which("node"):
            return "Node 20.19 or later"
        if not (PEERS / "node_modules" / cls.package).is_dir():
            return f"{cls.package} (npm ci --prefix bench/peers)"
        return None

    def command(self) -> list[str]:
        node = shutil.which("node")
        assert node is not None
        return [node, str(PEERS / self.script)]

    def environment(self) -> Mapping[str, str]:
        return {
            "PORT": str(self.port),
            "S3_ENDPOINT": self.store_url,
            "S3_BUCKET": self.sink.bucket,
            "NODE_ENV": "production",
            **super().environment(),
        }


class TusNode(NodePeer):
    """The tus project's server for Node."""

    name = "tus-node"
    protocol = "tus"
    path = "/files"
    script = "tus.mjs"
    package = "@tus/s3-store"
    about = "@tus/server with @tus/s3-store, Node"

    def key(self, name: str, session: str) -> str:
        return session.rpartition("/")[2]


class TusNodeStoreTls(TusNode):
    """The tus project's server for Node, with TLS to the store."""

    name = "tus-node-store-tls"
    about = "@tus/server with @tus/s3-store, TLS to the store"
    store_tls = True


class Uploadx(NodePeer):
    """uploadx, which speaks Google's protocol."""

    name = "uploadx"
    protocol = "google"
    path = "/files"
    script = "uploadx.mjs"
    package = "@uploadx/s3"
    about = "@uploadx/core with @uploadx/s3, Node"


class Tusd(Server):
    """The tus project's server in Go, with its S3 store."""

    name = "tusd"
    protocol = "tus"
    path = "/files/"
    about = "tusd with its S3 store, Go"

    def key(self, name: str, session: str) -> str:
        return session.rpartition("/")[2].partition("+")[0]

    @classmethod
    def _program(cls) -> str | None:
        beside = [str(PEERS / "bin"), str(Path.home() / "go" / "bin")]
        return shutil.which("tusd", path=os.pathsep.join([*beside, os.environ.get("PATH", "")]))

    @classmethod
    def missing(cls) -> str | None:
        install = "GOBIN=$PWD/bench/peers/bin go install github.com/tus/tusd/v2/cmd/tusd@latest"
        return None if cls._program() else f"tusd ({install})"

    def command(self) -> list[str]:
        program = self._program()
        assert program is not None
        return [
            *(program, "-host", "127.0.0.1", "-port", str(self.port), "-base-path", self.path),
            *("-s3-bucket", self.sink.bucket, "-s3-endpoint", self.store_url),
            *self._tls(),
        ]

    def _tls(self) -> list[str]:
        if not self.tls:
            return []
        certificate = str(self.own_certificate())
        return ["-tls-certificate", certificate, "-tls-key", certificate]


class TusdStoreTls(Tusd):
    """tusd with TLS to the store."""

    name = "tusd-store-tls"
    about = "tusd with TLS to the store"
    store_tls = True


class TusdTls(Tusd):
    """tusd over TLS."""

    name = "tusd-tls"
    about = "tusd over TLS"
    tls = True


class TusdBothTls(TusdStoreTls):
    """tusd with TLS on both sides."""

    name = "tusd-both-tls"
    about = "tusd over TLS, with TLS to the store"
    tls = True


def version_of(package: str) -> str:
    """Return the installed version of an npm package, or an empty string if it is not installed."""
    described = PEERS / "node_modules" / package / "package.json"
    return str(json.loads(described.read_text())["version"]) if described.exists() else ""
