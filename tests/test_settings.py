"""The configuration: what is read, what is refused and in which words, and that the file we ship tells the truth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from resumable.settings import (
    AuthSettings,
    ObjectSettings,
    Secret,
    SecretUrl,
    Settings,
    SettingsError,
    StoreSettings,
    embedded_settings,
    load_settings,
    parse_duration,
    parse_settings,
    parse_size,
)

SHIPPED = Path(__file__).parent.parent / "config" / "app.yaml"
MINIMAL = "store: {bucket: b}\nauth: open\n"
KNOWN = ", ".join(item.name for item in attrs.fields(Settings))
WHSEC = "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


TAB = "a tab is used to indent, where YAML takes only spaces"
ABOVE = "has a value already, on the line above, and no keys may stand below it; take one of them away"


def parse(text: str, **environ: str) -> Settings:
    return parse_settings(text, "app.yaml", environ)


def problems(text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, **environ)
    assert str(caught.value) == "\n".join(caught.value.problems)
    assert all(line.startswith("app.yaml: ") and "\n" not in line for line in caught.value.problems)
    return [line.removeprefix("app.yaml: ") for line in caught.value.problems]


def store(line: str, **environ: str) -> Settings:
    return parse(f"auth: open\nstore:\n  bucket: b\n  {line}\n", **environ)


def top(line: str, **environ: str) -> Settings:
    return parse(f"{MINIMAL}{line}\n", **environ)


def test_defaults() -> None:
    settings = parse(MINIMAL)
    assert settings.listen == ("tcp:8080",)
    assert settings.public_url is None
    assert settings.ledger.reveal() == "sqlite:///resumable.sqlite3"
    assert settings.auth == "open"
    assert (settings.store.kind, settings.store.bucket, settings.store.region) == ("s3", "b", None)
    assert settings.store.key == "{owner}/{name}"
    assert settings.store.chunk_size == 6 * 2**20
    assert settings.store.patience == 120
    assert settings.store.object == ObjectSettings()
    assert settings.limits.max_size is None
    assert (settings.limits.idle_timeout, settings.limits.drain, settings.limits.connections) == (60, 30, 10_000)
    assert settings.trusted_proxies == ()
    assert (settings.log.format, settings.log.level) == ("text", "info")


@pytest.mark.parametrize(
    ("written", "found"), [("off", "off"), ("'off'", "off"), ("false", "off"), ("redirect", "redirect")]
)
def test_downloads(written: str, found: str) -> None:
    """To YAML a plain off is a boolean."""
    assert top(f"download: {written}").download == found


def test_digests() -> None:
    assert top("digest: verify").digest == "verify"
    assert top("page: true").digest == "declared"
    assert problems(f"{MINIMAL}digest: refuse") == ["digest: must be declared or verify"]


@pytest.mark.parametrize("written", ["on", "true", "proxy", "[]", "0"])
def test_downloads_that_are_none(written: str) -> None:
    assert problems(f"{MINIMAL}download: {written}") == ["download: must be off or redirect"]


@pytest.mark.parametrize("url", ["http://[::1]:8000/", "http://auth_app:8000/?a=b", "https://bücher.example/"])
def test_an_application_may_be_anywhere(url: str) -> None:
    settings = parse(f"store: {{bucket: b}}\nauth: {{url: '{url}'}}\n")
    assert isinstance(settings.auth, AuthSettings)
    assert settings.auth.url == url


def test_everything_is_read() -> None:
    settings = parse(
        """
listen: ["tcp:0", "tcp:8081:interface=127.0.0.1"]
public_url: https://up.example.com/
trusted_proxies: [10.0.0.0/8, 192.0.2.1, "2001:DB8::/32", unix]
store: {kind: s3, bucket: b, region: eu-west-1, endpoint: "http://[::1]:9000", addressing: path, access_key: a,
  secret_key: s, session_token: t, key: "{date}/{id}", overwrite: false, chunk_size: 5GiB, max_parts: 1000,
  parts_in_flight: 64, fragments_prefix: x/, checksum: none, patience: 500ms,
  object: {acl: public-read, storage_class: X, cache_control: no-cache, encryption: "aws:kms", kms_key: k,
    tags: {a: b}}}
ledger: postgresql://u@h/db
auth: {url: "https://app.example.com/a?b=c", forward: [Authorization, X-Api-Key], timeout: 1.5, cache: 1m}
limits: {max_size: 1.5GiB, memory: 64MiB, idle_timeout: 1m, connections: 5, drain: 0}
log: {format: json, level: debug}
"""
    )
    assert settings.listen == ("tcp:0", "tcp:8081:interface=127.0.0.1")
    assert settings.public_url == "https://up.example.com"
    assert settings.trusted_proxies == ("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32", "unix")
    assert settings.store.secret_key == Secret("s")
    assert settings.store.overwrite is False
    assert settings.store.object.tags == {"a": "b"}
    assert settings.auth == AuthSettings(
        url="https://app.example.com/a?b=c", forward=("authorization", "x-api-key"), timeout=1.5, cache=60.0
    )
    assert (settings.limits.max_size, settings.limits.connections) == (3 * 2**29, 5)


def test_empty_values_count_as_left_out() -> None:
    assert store("region:").store.region is None
    assert store("access_key: ${KEY:-}").store.access_key is None
    assert top("limits:").limits == parse(MINIMAL).limits


def test_embedded() -> None:
    settings = embedded_settings()
    assert (settings.store.kind, settings.store.bucket, settings.auth) == ("embedded", "uploads", "open")
    assert settings.listen == ("tcp:8080:interface=127.0.0.1",)
    assert settings.ledger.reveal() == "sqlite://"
    assert parse("auth: open\nstore: {kind: embedded}").store.bucket == "uploads"


def test_all_problems_are_collected() -> None:
    assert problems("store: {buckt: x, max_parts: 0}\nlisten: [tcp:1, nonsense]\nlog: {level: loud}\nweather: red") == [
        f"weather: unknown key; known are {KNOWN}",
        "listen[1]: must be a Twisted endpoint description such as tcp:8080 (Unknown endpoint type: 'nonsense')",
        "store.buckt: unknown key; did you mean bucket?",
        "store.max_parts: must be a whole number from 1 to 10000",
        "store.bucket: required",
        "auth: required (auth: open lets everyone upload)",
        "log.level: must be debug, info, warn or error",
    ]


def test_events() -> None:
    """Nobody is told unless the section is there; then an address and, for our own format, a secret is wanted."""
    assert top("events:").events is None
    found = top(f"events: {{url: 'https://a/b', secret: {WHSEC}, types: [upload.failed, upload.finished]}}").events
    assert found is not None
    assert found.secret is not None
    assert (found.secret.reveal(), found.types) == (WHSEC, ("upload.failed", "upload.finished"))
    assert WHSEC not in repr(found)
    assert top("events: {url: 'https://a/b', format: tusd}").events is not None
    assert problems(f"{MINIMAL}events: {{url: 'https://a/b'}}")[0].startswith("events.secret: required")
    for wrong in ("hunter2", "whsec_", "whsec_aHVudGVyMg==", WHSEC + "!", WHSEC.removeprefix("whsec_")):
        said = problems(f"{MINIMAL}events: {{url: 'https://a/b', secret: '{wrong}'}}")
        assert said == ["events.secret: must be whsec_ and the base64 of 24 to 64 bytes"]
    assert "upload.gone" not in problems(f"{MINIMAL}events: {{url: 'https://a/b', secret: {WHSEC}, types: []}}")[0]


def test_a_problem_is_a_line_whatever_the_key() -> None:
    assert problems('auth: open\nstore: {bucket: b, "buck\\net": 1, 5: 6}') == [
        "store.buck?et: unknown key; did you mean bucket?",
        f"store.5: unknown key; known are {', '.join(item.name for item in attrs.fields(StoreSettings))}",
    ]


@pytest.mark.parametrize("ledger", ["sqlite://", '"sqlite:///:memory:"'])
def test_workers_cannot_share_a_ledger_in_memory(ledger: str) -> None:
    assert parse(f"{MINIMAL}ledger: {ledger}\nworkers: 1\n").workers == 1
    (problem,) = problems(f"{MINIMAL}ledger: {ledger}\nworkers: 2\n")
    assert problem == "workers: must be 1 with a ledger in memory; give it a file (sqlite:///FILE) or PostgreSQL"


def test_workers_cannot_share_the_embedded_store() -> None:
    (problem,) = problems("store: {kind: embedded}\nauth: open\nworkers: 2\n")
    assert problem == "workers: must be 1 with store.kind: embedded, which is for trying things out"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "holds no settings"),
        ("# nothing\n", "holds no settings"),
        ("- a", f"must hold the keys {KNOWN}"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("auth: open\nstore: {bucket: b", "line 2, column 18: expected ',' or '}', but got '<stream end>'"),
        ("auth: open\n--- \nb: 1", "line 2, column 1: but found another document"),
        ("auth: open\nstore: \x07", "line 2, column 8: holds a character that YAML does not allow"),
        ("\x07", "line 1, column 1: holds a character that YAML does not allow"),
        ("auth: *hunter2", "line 1, column 7: found undefined alias …"),
        ("auth: !hunter2 x", "line 1, column 7: could not determine a constructor for the tag …"),
        ("store:\n\tbucket: b", f"line 2, column 1: {TAB}"),
        ("store:\n  bucket: b\n\tregion: r", f"line 3, column 1: {TAB}"),
        ("auth: open\n  url: https://a.example", f"line 2, column 6: auth {ABOVE}"),
        ("store:\n  bucket: hunter2\n  # more\n    region: r", f"line 4, column 5: bucket {ABOVE}"),
        ("store:\n  bucket: b\n  key: a: b", "line 3, column 9: mapping values are not allowed here"),
        ("store: &a [*a]", "nests too deeply"),
        ("? [a, b]\n: c", "line 1, column 3: found unhashable key"),
        ("auth: 2024-13-77", "holds an impossible date or number (put it in quotes)"),
        ("auth: open\nstore:\n  bucket: a\n  region: r\n  bucket: b", "store.bucket: given twice (lines 3 and 5)"),
    ],
)
def test_yaml_problems(text: str, problem: str) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("listen: []", "listen: must name at least 1"),
        ("listen: 8080", "listen: must be text (put it in quotes)"),
        ("listen: tcp:65536", "listen: the port must be from 0 to 65535"),
        ("listen: tcp:x", "listen: must be a Twisted endpoint description such as tcp:8080 (invalid literal"),
        ("listen: ssl:443:privateKey=/nowhere/key", "listen: must be a Twisted endpoint description"),
        ("public_url: ftp://example.com", "public_url: must be a URL such as https://example.com/path"),
        ("public_url: https:///path", "public_url: must be a URL such as https://example.com/path"),
        ("public_url: https://a:b", "public_url: must be a URL such as https://example.com/path"),
        ("public_url: https://u:hunter2@example.com", "public_url: must not hold a user name or a password"),
        ("public_url: https://example.com/?a=b", "public_url: must not hold a ?query"),
        ("ledger: mysql://u:hunter2@h/db", "ledger: must be sqlite:///FILE or postgresql://USER@HOST/DB"),
        ("trusted_proxies: 10.0.0.1/8", "trusted_proxies: must be a network such as 10.0.0.0/8, an address, or unix"),
        ("trusted_proxies: [unix, a.example]", "trusted_proxies[1]: must be a network such as 10.0.0.0/8, an address"),
        ("limits: {connections: 0}", "limits.connections: must be a whole number from 1 to 1000000"),
        ("ledger: hunter2", "ledger: must be sqlite:///FILE or postgresql://USER@HOST/DB"),
        ("limits: {memory: 1KB}", "limits.memory: must be at least 1MiB"),
        ("limits: {max_size: lots}", "limits.max_size: must be a size such as 6MiB, 5GB or a plain number of bytes"),
        ("limits: {drain: 1w}", "limits.drain: must be a duration such as 500ms, 30s, 5m, 2h, 7d or a plain number"),
        ("limits: 5", "limits: must hold the keys max_size, memory, idle_timeout, connections, drain"),
    ],
)
def test_refused_at_the_top(line: str, problem: str) -> None:
    found = problems(MINIMAL + line)
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert "hunter2" not in found[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("kind: gcp", "kind: must be s3, gcs or embedded"),
        ("region: 7", "region: must be text (put it in quotes)"),
        ('region: "a\\nb"', "region: must be one line without control characters"),
        ("endpoint: s3.example.com", "endpoint: must be a URL such as https://example.com/path"),
        ("overwrite: 1", "overwrite: must be true or false"),
        ("key: '{owner}'", "key: must hold {name} or {id}, or all uploads get the same key"),
        ("key: '{name}{size}'", "key: may hold only {name}, {owner}, {id} and {date} in braces"),
        ("key: '{name}}'", "key: may hold only {name}, {owner}, {id} and {date} in braces"),
        ("key: '{name!r}'", "key: may hold only {name}, {owner}, {id} and {date} in braces"),
        ("chunk_size: 4MiB", "chunk_size: must be at least 5MiB"),
        ("chunk_size: 6GiB", "chunk_size: must be at most 5GiB"),
        ("max_parts: true", "max_parts: must be a whole number from 1 to 10000"),
        ("max_parts: 10001", "max_parts: must be a whole number from 1 to 10000"),
        ("parts_in_flight: 65", "parts_in_flight: must be a whole number from 1 to 64"),
        ("fragments_prefix: x", "fragments_prefix: must end with /"),
        ("access_key: hunter2", "secret_key: required, since access_key is given"),
        ("secret_key: hunter2", "access_key: required, since secret_key is given"),
        ("session_token: hunter2", "session_token: needs access_key and secret_key"),
        ("credentials: f", "credentials: only with kind: gcs (S3 has access_key and secret_key)"),
        (
            "kind: gcs\n  access_key: hunter2\n  secret_key: hunter2",
            "access_key: not with kind: gcs, which has credentials (for HMAC keys: kind: s3 and Google's endpoint)",
        ),
        ("kind: gcs\n  object: {tags: {a: b}}", "object.tags: not with kind: gcs, whose objects have none"),
        (
            "kind: gcs\n  object: {encryption: AES256}",
            "object.encryption: not with kind: gcs; name a key of Cloud KMS in kms_key",
        ),
        (
            'kind: gcs\n  credentials: \'{"private_key": "hunter2"}\'',
            "credentials: has to be the path of a key file, not the key itself",
        ),
        ("profile: minio", "endpoint: required with profile: minio (without it Amazon's is asked)"),
        ("object: {tags: [a]}", "object.tags: must be names and texts, such as {team: video}"),
        ("object: {tags: {a: 1}}", "object.tags.a: must be text (put it in quotes)"),
    ],
)
def test_refused_in_the_store(line: str, problem: str) -> None:
    assert problems(f"auth: open\nstore:\n  bucket: b\n  {line}\n") == [f"store.{problem}"]


def test_a_bucket_is_no_url() -> None:
    said = problems("auth: open\nstore: {kind: gcs, bucket: 'gs://b'}\n")
    assert said == ["store.bucket: has to be the bucket's name alone, without gs:// or s3://"]


@pytest.mark.parametrize(
    ("auth", "problem"),
    [
        ("''", "auth: required (auth: open lets everyone upload)"),
        ("close", "auth: must be open, or hold the keys url, forward, timeout, cache"),
        ("true", "auth: must be open, or hold the keys url, forward, timeout, cache"),
        ("{timeout: 5s}", "auth.url: required"),
        ("{url: 'http://u:hunter2@h/'}", "auth.url: must not hold a user name or a password"),
        (
            "{url: 'http://ü..b/'}",
            "auth.url: must be a URL such as https://example.com/path; no host can have this name",
        ),
        ("{url: 'http://h/', timeout: 0}", "auth.timeout: must be at least 10ms"),
        ("{url: 'http://h/', forward: [cookie, 'a b']}", "auth.forward[1]: must be the name of an HTTP header"),
        ("{url: 'http://h/', forward: Content-Length}", "auth.forward: cannot be forwarded"),
        ("{url: 'http://h/', forward: [X-Upload-Id]}", "auth.forward[0]: cannot be forwarded"),
    ],
)
def test_refused_in_auth(auth: str, problem: str) -> None:
    assert problems(f"store: {{bucket: b}}\nauth: {auth}\n") == [problem]


def test_listening_where_systemd_says_can_be_checked_without_it() -> None:
    assert top("listen: systemd:domain=INET:index=0").listen == ("systemd:domain=INET:index=0",)


def test_environment() -> None:
    assert store("region: ${A}-${B:-x}-$$", A="${B}: 1").store.region == "${B}: 1-x-$"
    assert store("region: ${A:-x}", A="").store.region == "x"
    keys = "bucket: b, max_parts: '${N}', overwrite: '${O}', patience: '${P}', chunk_size: '${C}'"
    settings = parse(f"auth: ${{A}}\nstore: {{{keys}}}", A="open", N="7", O="no", P="1.5", C="6291456")
    assert (settings.store.max_parts, settings.store.overwrite) == (7, False)
    assert (settings.store.patience, settings.store.chunk_size, settings.auth) == (1.5, 6 * 2**20, "open")


def test_environment_problems_name_the_variable_alone() -> None:
    assert problems("auth: open\nstore: {bucket: '${B}', access_key: '${K}', secret_key: '${S}'}", S="hunter2") == [
        "store.bucket: the environment variable B is not set",
        "store.access_key: the environment variable K is not set",
    ]
    dollar = "holds a $ that is neither ${NAME} nor ${NAME:-default}; write $$ for a $"
    assert problems("auth: open\nstore: {bucket: b, object: {tags: {a: '$x ${A.B}'}}}") == [
        f"store.object.tags.a: {dollar}"
    ]
    assert problems(MINIMAL + "listen: ['tcp:1', '${L}']") == ["listen[1]: the environment variable L is not set"]


def test_secrets_are_not_shown() -> None:
    text = "{access_key: hunter2, secret_key: hunter2, session_token: hunter2, bucket: b}"
    ledger = "postgresql://u:hunter2@h/db?sslpassword=hunter2&a=b"
    settings = parse(f"auth: open\nstore: {text}\nledger: {ledger}")
    shown = f"{settings} {settings!r} {settings.store.secret_key} {settings.ledger} {attrs.asdict(settings)}"
    assert "hunter2" not in shown
    assert str(settings.ledger) == "postgresql://u:***@h/db?a=b&sslpassword=hidden"
    assert settings.ledger == SecretUrl(ledger)
    assert settings.ledger.reveal() == ledger
    assert settings.store.secret_key is not None
    assert settings.store.secret_key.reveal() == "hunter2"
    url = "url: 'https://app.example.com/a?token=hunter2'"
    asking = parse(f"store: {{bucket: b}}\nauth: {{{url}}}\nevents: {{{url}, secret: {WHSEC}}}")
    assert "hunter2" not in f"{asking} {asking!r}"
    assert WHSEC not in repr(asking)
    assert repr(asking).count("url='https://app.example.com/a'") == 2
    assert problems(f"auth: open\nstore: {text}\nledger: 5\nlog: {{level: '${{S}}'}}", S="hunter2") == [
        "ledger: must be text (put it in quotes)",
        "log.level: must be debug, info, warn or error",
    ]


def test_files(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(SettingsError) as caught:
            load_settings(path)
        return caught.value.problems[0].removeprefix(f"{path}: ")

    assert problem(tmp_path / "none.yaml") == "no such file"
    assert problem(tmp_path) == "cannot be read: Is a directory"
    file = tmp_path / "app.yaml"
    file.write_bytes(b"auth: \xff")
    assert problem(file) == "is not UTF-8 text"
    file.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_settings(str(file)) == parse(MINIMAL)


@pytest.mark.parametrize(
    ("text", "value"),
    [("6MiB", 6 * 2**20), ("5GB", 5 * 10**9), ("1.5GiB", 3 * 2**29), ("2 tib", 2**41), ("17", 17), (17, 17), (0, 0)],
)
def test_sizes(text: object, value: int) -> None:
    assert parse_size(text) == value
    assert isinstance(parse_size(text), int)


@pytest.mark.parametrize("text", ["", "6M", "-1", -1, "1.5", 1.5, "1e6", True, None, "MiB", "5GiBs", "٣", [1]])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="6MiB, 5GB or a plain number of bytes"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "value"), [("500ms", 0.5), ("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604800), ("1.5", 1.5), (3, 3)]
)
def test_durations(text: object, value: float) -> None:
    assert parse_duration(text) == value


@pytest.mark.parametrize("text", ["", "5w", "-1s", float("nan"), float("inf"), True, None, "1h30m"])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="30s, 5m, 2h, 7d or a plain number of seconds"):
        parse_duration(text)


@given(st.text())
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever the file holds: problems of one line each, and no other exception."""
    found = []
    try:
        parse(text)
    except SettingsError as error:
        found = error.problems
    # A text that is no mapping with an auth in it is never a configuration.
    assert found
    assert not any("\n" in problem for problem in found)


def declared(cls: type[Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the default of every key there is."""
    for item in attrs.fields(cls):
        inner = item.metadata["resumable.settings"].section
        if inner is not None:
            yield from declared(inner, f"{path}{item.name}.")
        else:
            default = item.default.factory() if hasattr(item.default, "factory") else item.default
            yield path + item.name, default


def written(tree: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from written(value, f"{path}{name}.")
        else:
            yield path + name


def value_at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_the_shipped_file_loads_and_tells_every_default() -> None:
    shipped = SHIPPED.read_text()
    settings = load_settings(SHIPPED, {})
    uncommented = re.sub(r"^( *)#(?=\w)", r"\1", shipped, flags=re.MULTILINE)
    assert sorted(written(yaml.safe_load(uncommented))) == sorted(path for path, _ in declared(Settings))
    # Where nobody is told of events, nothing about them is required.
    required = {"url": "https://app.example.com/uploads", "secret": WHSEC}
    filled = re.sub(
        r"^  (url|secret):$", lambda key: f"  {key[1]}: {required[key[1]]}", uncommented, flags=re.MULTILINE
    )
    everything = parse_settings(filled, "uncommented", {})
    assert settings.events is None
    for path, default in declared(Settings):
        if path not in ("store.bucket", "auth.url", "events.url", "events.secret"):
            assert value_at(everything, path) == default, path
            assert path.startswith("events.") or value_at(settings, path) == default, path
            # A key without a value is one without a default.
            section, _, name = path.rpartition(".")
            begin = re.search(rf"^#?{section.partition('.')[0] or name}:", shipped, re.MULTILINE)
            assert begin is not None, path
            line = re.compile(rf"^ *#{name}: *(.*)$", re.MULTILINE).search(shipped, begin.start())
            assert line is not None, path
            assert (line[1] == "") == (default is None), path
    assert isinstance(settings.auth, AuthSettings)
    assert (settings.store.bucket, settings.auth.url) == ("my-bucket", "https://app.example.com/allow_upload")


def test_a_ledger_on_several_hosts() -> None:
    """As PostgreSQL's own URLs have them; what is shown of it holds no password."""
    ledger = parse(f"{MINIMAL}ledger: postgresql://u:hunter2@h1:5433,[::1],h3/db?sslmode=require\n").ledger
    assert ledger.reveal() == "postgresql://u:hunter2@h1:5433,[::1],h3/db?sslmode=require"
    assert "hunter2" not in str(ledger)
    assert "h1" in str(ledger)
    (problem,) = problems(f"{MINIMAL}ledger: postgresql://u:hunter2@h1:x,h2/db\n")
    assert problem == "ledger: must be sqlite:///FILE or postgresql://USER@HOST/DB"
