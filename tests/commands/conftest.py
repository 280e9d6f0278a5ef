"""The commands as an operator runs them, and a moto that asks for keys and looks at policies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
import yaml
from botocore.config import Config

from tests.harness import ROOT
from tests.s3servers import MotoServer
from tests.service.conftest import configuration

RESUMABLE = "from resumable.commands import main; main()"

#: What the documentation says a bucket has to allow.
NEEDED = frozenset(
    {
        "s3:PutObject",
        "s3:GetObject",
        "s3:DeleteObject",
        "s3:ListBucket",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
        "s3:ListBucketMultipartUploads",
    }
)


class Operator:
    """Somebody at a shell, in a directory with a configuration."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def configure(self, config: Mapping[str, Any]) -> None:
        (self.directory / "app.yaml").write_text(yaml.safe_dump(dict(config)))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """``resumable …`` with the configuration in its environment."""
        ended = subprocess.run(
            [sys.executable, "-c", RESUMABLE, *arguments],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "RESUMABLE_CONFIG": "app.yaml"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in ended.stdout + ended.stderr
        return ended

    def json(self, *arguments: str) -> Any:
        """What a command that goes well says with --json."""
        # Behind -- nothing is an option.
        at = arguments.index("--") if "--" in arguments else len(arguments)
        ended = self.run(*arguments[:at], "--json", *arguments[at:])
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    def failures(self, *arguments: str) -> list[str]:
        """The lines that a command which fails leaves on standard error."""
        ended = self.run(*arguments)
        assert ended.returncode == 1, ended
        return ended.stderr.splitlines()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


#: All of moto, not its S3 alone.
MOTO = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.buffer.read()
"""


class StrictMoto(MotoServer):
    """moto with IAM: a key has to be somebody's, and may do what the policies of its user say."""

    def command(self) -> list[str]:
        return [sys.executable, "-c", MOTO]

    def __enter__(self) -> StrictMoto:
        super().__enter__()
        self.access_key, self.secret_key = self.user({"s3:*", "iam:*"})
        requests.post(f"{self.endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
        return self

    def user(self, allowed: set[str] | frozenset[str]) -> tuple[str, str]:
        """A new user's access key and secret key."""
        iam = boto3.client(
            "iam",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(retries={"max_attempts": 1}),
        )
        name = os.urandom(4).hex()
        iam.create_user(UserName=name)
        policy = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": sorted(allowed), "Resource": "*"}],
        }
        iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return key["AccessKeyId"], key["SecretAccessKey"]


@pytest.fixture(scope="package")
def strict() -> Iterator[StrictMoto]:
    with StrictMoto() as server:
        yield server


@pytest.fixture
def as_user(strict: StrictMoto, operator: Operator) -> Callable[..., tuple[str, str]]:
    """Configure the keys of a user who may do only this."""

    def configure(allowed: set[str] | frozenset[str], **store: Any) -> tuple[str, str]:
        access_key, secret_key = strict.user(allowed)
        store = {"access_key": access_key, "secret_key": secret_key, "patience": "1s", **store}
        operator.configure(configuration(strict, store=store))
        return access_key, secret_key

    return configure


def contents(s3: MotoServer) -> list[str]:
    """Everything that is in the bucket: keys of objects and of multipart uploads."""
    client = s3.boto3()
    objects = client.list_objects_v2(Bucket=s3.bucket).get("Contents", [])
    multiparts = client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", [])
    return [entry["Key"] for entry in objects + multiparts]
