"""What stands in deploy/ is right as far as that can be seen without running it: its own program's check, or its parser,
and that it speaks of the settings, ports, paths and times that there are.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from resumable.settings import Settings, parse_duration, parse_settings
from resumable.workers.pool import GRACE
from tests.harness import ROOT

DEPLOY = ROOT / "deploy"
PATHS = {"/healthz", "/readyz", "/metrics"}


def program(name: str) -> str:
    """Return the program's path, or skip the test."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {name.split('-')[0]})")
    return found


def run(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def wrapped(directory: Path, site: str) -> Path:
    """Return a whole nginx configuration around a site, which writes into the directory only."""
    bodies = "".join(
        f"{name}_temp_path {directory}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = directory / "nginx.conf"
    whole.write_text(
        f"daemon off;\npid {directory}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{bodies}{site}\n}}\n"
    )
    return whole


@pytest.mark.soak
def test_haproxy() -> None:
    assert "warning" not in run(program("haproxy"), "-c", "-f", str(DEPLOY / "haproxy.cfg")).lower()


@pytest.mark.soak
def test_nginx(tmp_path: Path) -> None:
    whole = wrapped(tmp_path, (DEPLOY / "nginx.conf").read_text())
    assert "warn" not in run(program("nginx"), "-t", "-p", str(tmp_path), "-c", str(whole))


@pytest.mark.soak
@pytest.mark.parametrize("unit", ["resumable.service", "resumable.socket"])
def test_systemd(tmp_path: Path, unit: str) -> None:
    """Without the program and the user, which the machine that checks does not have."""
    for path in (DEPLOY / "systemd").iterdir():
        text = path.read_text().replace("/opt/resumable/bin/twistd", sys.executable).replace("User=resumable\n", "")
        (tmp_path / path.name).write_text(text)
    said = run(program("systemd-analyze"), "verify", "--man=no", str(tmp_path / unit))
    assert [line for line in said.splitlines() if str(tmp_path) in line or "resumable" in line] == []


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """Return the sections of a unit file."""

    class Many(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                self[key].extend(value)
            else:
                super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Many)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "systemd" / name)
    return {name: {k: v.split("\n") for k, v in parser[name].items()} for name in parser.sections()}


def stops_within(settings: Settings) -> float:
    """Return the longest that an orderly end takes, in seconds."""
    return settings.limits.drain_delay + settings.limits.drain + GRACE


def settings(text: str, **environment: str) -> Settings:
    return parse_settings(text, "deploy", environment)


DEFAULTS = settings("store: {bucket: b}\nauth: open\n")


def test_the_units_and_the_service_know_each_other() -> None:
    """The socket's name and port, the kind of start, and time enough to stop."""
    service, port = unit("resumable.service")["Service"], unit("resumable.socket")["Socket"]
    assert service["Type"] == ["notify"]
    assert float(service["TimeoutStopSec"][0]) > stops_within(DEFAULTS)
    assert "resumable --config /etc/resumable/app.yaml" in service["ExecStart"][0]
    head = (DEPLOY / "systemd" / "resumable.socket").read_text().split("[Unit]")[0].replace("\n# ", " ")
    listen = re.search(r"listen: (\S+)", head)
    assert listen is not None
    assert settings(f"listen: {listen[1]}\nstore: {{bucket: b}}\nauth: open\n").listen == (listen[1],)
    assert listen[1].endswith(f"name={port['FileDescriptorName'][0]}")
    assert port["ListenStream"][0].split(":")[0].count(".") == 3, "domain=INET"


def seconds(text: str, pattern: str) -> float:
    found = re.search(pattern, text, re.MULTILINE)
    assert found is not None, pattern
    return parse_duration(found[1])


def test_proxies_wait_longer_than_the_service() -> None:
    """Who is silent, and who waits for the store, is the service's to say; and nobody's body is kept."""
    haproxy, nginx = (DEPLOY / "haproxy.cfg").read_text(), (DEPLOY / "nginx.conf").read_text()
    for text, client, server in (
        (haproxy, r"^ *timeout client (\S+)", [r"^ *timeout server (\S+)"]),
        (nginx, r"client_body_timeout (\S+);", [r"proxy_read_timeout (\S+);", r"proxy_send_timeout (\S+);"]),
    ):
        assert seconds(text, client) > DEFAULTS.limits.idle_timeout
        for pattern in server:
            assert seconds(text, pattern) > DEFAULTS.store.patience
    assert not re.search(r"^\s*option http-buffer-request", haproxy, re.MULTILINE)
    assert "proxy_request_buffering off;" in nginx
    assert "client_max_body_size 0;" in nginx


def test_proxies_ask_and_hide_the_pages_there_are() -> None:
    haproxy, nginx = (DEPLOY / "haproxy.cfg").read_text(), (DEPLOY / "nginx.conf").read_text()
    hidden = re.search(r"if \{ path ([^}]+) \}", haproxy)
    assert hidden is not None
    assert set(hidden[1].split()) == PATHS
    assert {f"/{name}" for name in re.search(r"\^/\((\S+)\)\$", nginx)[1].split("|")} == PATHS  # type: ignore[index]
    assert "uri /readyz" in haproxy


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())  # type: ignore[no-any-return]


def test_compose_runs_the_configuration_beside_it() -> None:
    """Its settings are settings, its variables are given, its hosts are services, its ports the same everywhere."""
    services = compose()["services"]
    own = services["resumable"]
    text = (DEPLOY / "compose" / "app.yaml").read_text()
    found = settings(text, **own["environment"])
    assert own["ports"] == [f"127.0.0.1:8080:{found.listen[0].split(':')[1]}"]
    assert re.search(r"@(\w+)/", found.ledger.reveal())[1] in services  # type: ignore[index]
    assert re.search(r"//(\w+):9000$", str(found.store.endpoint))[1] in services  # type: ignore[index]
    assert services["bucket"]["command"][-1] == f"s3/{found.store.bucket}"
    assert set(own["depends_on"]) <= set(services)
    assert parse_duration(own["stop_grace_period"]) > stops_within(found)
    assert found.workers > 1
    for service in services.values():
        image = service.get("image", "x:y")
        assert ":" in image.rpartition("/")[2], f"{image}: which version?"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose()["volumes"] or (DEPLOY / "compose" / source).is_file()
    build = own["build"]
    assert (DEPLOY / "compose" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def instructions() -> Iterator[tuple[str, str]]:
    """Yield the Dockerfile's instructions."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    for line in filter(None, text.splitlines()):
        name, _, rest = line.partition(" ")
        yield name, rest.strip()


def test_the_image() -> None:
    """It copies what is there and is not ignored, in a Python that is supported; and it does not run as root."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    found = list(instructions())
    copied = [rest.split()[:-1] for name, rest in found if name == "COPY" and not rest.startswith("--from")]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored, source
    assert {re.match(r"python:3\.1\d-slim\b", rest) is not None for name, rest in found if name == "FROM"} == {True}
    assert ("USER", "10001") in found
    assert ("EXPOSE", "8080") in found
    assert any(name == "HEALTHCHECK" and ":8080/healthz" in rest for name, rest in found)
    setup = (ROOT / "setup.py").read_text()
    extras = {e for n, rest in found if n == "RUN" for e in re.findall(r"'\.\[(\w+)\]'", rest)}
    assert extras
    assert all(f'"{extra}": [' in setup for extra in extras)


def test_kubernetes() -> None:
    """Its objects know each other, and its configuration is one."""
    objects = {o["kind"]: o for o in yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())}
    assert set(objects) == {"Secret", "ConfigMap", "Deployment", "Service", "PodDisruptionBudget"}
    found = settings(objects["ConfigMap"]["data"]["app.yaml"], **objects["Secret"]["stringData"])
    assert found.workers == 1
    assert found.limits.drain_delay > 0
    deployment = objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert found.listen == (f"tcp:{port['containerPort']}",)
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert deployment["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert pod["terminationGracePeriodSeconds"] > stops_within(found)
    probes = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
        "startupProbe": "/healthz",
    }
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    ready = container["readinessProbe"]
    assert ready["periodSeconds"] * (ready["failureThreshold"] + 1) < found.limits.drain_delay
    assert container["envFrom"] == [{"secretRef": {"name": objects["Secret"]["metadata"]["name"]}}]
    assert {m["name"] for m in container["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert pod["volumes"][0]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    (user,) = {rest for name, rest in instructions() if name == "USER"}
    assert str(pod["securityContext"]["runAsUser"]) == user


def test_the_page_names_every_file() -> None:
    """docs/deploying.md, and nothing that is not there."""
    page = (ROOT / "docs" / "deploying.md").read_text()
    named = set(re.findall(r"\(\.\./(deploy/[\w./-]+)\)", page))
    there = {
        str(path.relative_to(ROOT))
        for path in DEPLOY.rglob("*")
        if path.is_file() and path.suffix != ".json" and not path.name.endswith(".dockerignore")
    }
    assert named == {name for name in there if not name.startswith(("deploy/grafana", "deploy/prometheus"))}
