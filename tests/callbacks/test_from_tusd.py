"""docs/from-tusd.md: every flag and every hook of tusd is in it, and the configuration that it shows is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resumable.callbacks.formats import HOOKS
from resumable.model import EVENTS, PROGRESS
from resumable.settings import parse_settings

PAGE = (Path(__file__).parent.parent.parent / "docs/from-tusd.md").read_text()
#: As tusd 2 declares them (cmd/tusd/cli/flags.go), group by group.
FLAGS = re.findall(
    r"\S+",
    """
host port unix-sock base-path behind-proxy enable-h2c tls-certificate tls-key tls-mode enable-experimental-protocol
disable-download disable-termination disable-concatenation max-size disable-cors cors-allow-origin
cors-allow-credentials cors-allow-methods cors-allow-headers cors-max-age cors-expose-headers upload-dir
filelock-holder-poll-interval filelock-acquirer-poll-interval dir-perms file-perms s3-bucket s3-object-prefix
s3-endpoint s3-part-size s3-min-part-size s3-max-buffered-parts s3-disable-content-hashes s3-disable-ssl
s3-concurrent-part-uploads s3-transfer-acceleration s3-log-api-calls gcs-bucket gcs-object-prefix gcs-endpoint
azure-storage azure-container-access-type azure-blob-access-tier azure-object-prefix azure-endpoint
hooks-enabled-events progress-hooks-interval hooks-dir hooks-http hooks-http-forward-headers hooks-http-retry
hooks-http-backoff hooks-http-timeout hooks-http-size-limit hooks-http-skip-verify hooks-grpc hooks-grpc-retry
hooks-grpc-backoff hooks-grpc-secure hooks-grpc-server-tls-certificate hooks-grpc-client-tls-certificate
hooks-grpc-client-tls-key hooks-grpc-forward-headers hooks-plugin expose-metrics metrics-path expose-pprof pprof-path
pprof-block-profile-rate pprof-mutex-profile-rate show-greeting version verbose show-startup-logs log-format
network-timeout shutdown-timeout acquire-lock-timeout request-completion-timeout
""",
)


def rows(heading: str) -> list[str]:
    """The first cell of each row of the table under a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]


def test_every_flag() -> None:
    named = [name for cell in rows("Flags") for name in re.findall(r"`-([a-z0-9-]+)`", cell)]
    assert sorted(named) == sorted(FLAGS)


def test_every_hook() -> None:
    told = {hook for pair in HOOKS.values() for hook in pair} | {"post-terminate", "pre-terminate"}
    assert {cell.strip(" `") for cell in rows("Hooks")} == told


@pytest.mark.parametrize("block", re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
def test_the_configuration(block: str) -> None:
    settings = parse_settings(block, "from-tusd.md", {})
    assert settings.events is not None
    assert settings.events.format == "tusd"
    assert set(settings.events.types) == {*EVENTS.values(), PROGRESS}
