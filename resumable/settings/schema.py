"""Every key of the configuration: how it is written, what it is by default, and what bounds it.

A key without a default is required. Sizes are in bytes and durations in seconds once they are read.
"""

# ruff: noqa: RUF009 -- setting() and section() make attrs fields, which the rule cannot see

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from attrs import frozen

from resumable.model import EVENTS, PROGRESS
from resumable.settings.reader import optional_section, section, setting
from resumable.settings.secrets import Secret, SecretUrl
from resumable.settings.values import (
    MIB,
    base_url,
    boolean,
    called_url,
    choice,
    duration,
    folder,
    forwarded_header,
    in_memory,
    key_template,
    ledger_url,
    listed,
    off_or,
    origin,
    parse_endpoint,
    proxy,
    secret,
    size,
    table,
    text,
    webhook_secret,
    whole,
    without_query,
)

#: The stores that speak S3 whose habits are known (`resumable.stores.profiles`), and ``auto``: chosen by the endpoint.
STORE_PROFILES = (
    *("auto", "aws", "r2", "b2", "minio", "ceph", "wasabi"),
    *("spaces", "scaleway", "storj", "gcs-hmac"),
)

#: The protocols that there are; all of them are spoken by default.
PROTOCOLS = ("put", "session", "tus", "ietf", "google", "goog-upload", "vimeo", "segments", "form")


@frozen(kw_only=True)
class ObjectSettings:
    """What every object is created with, unless the application says otherwise."""

    acl: str | None = setting(text, None)
    storage_class: str | None = setting(text, None)
    cache_control: str | None = setting(text, None)
    encryption: str | None = setting(text, None)
    kms_key: str | None = setting(text, None)
    tags: Mapping[str, str] = setting(table, {})


@frozen(kw_only=True)
class StoreSettings:
    """Where the bytes go."""

    kind: str = setting(choice("s3", "gcs", "embedded"), "s3")
    profile: str = setting(choice(*STORE_PROFILES), "auto")
    #: Required but for the embedded store, which alone has the default.
    bucket: str = setting(text, "uploads")
    #: As all that is None here: what the profile says.
    region: str | None = setting(text, None)
    endpoint: str | None = setting(base_url, None)
    addressing: str = setting(choice("auto", "path", "virtual"), "auto")
    access_key: Secret | None = setting(secret, None)
    secret_key: Secret | None = setting(secret, None)
    session_token: Secret | None = setting(secret, None)
    #: The path of Google's key file.
    credentials: str | None = setting(text, None)
    key: str = setting(key_template, "{owner}/{name}")
    overwrite: bool = setting(boolean, True)
    chunk_size: int = setting(size("5MiB", "5GiB"), 6 * MIB)
    max_parts: int | None = setting(whole(1, 10000), None)
    parts_in_flight: int = setting(whole(1, 64), 4)
    fragments_prefix: str = setting(folder, ".resumable/")
    checksum: str | None = setting(choice("crc32c", "none"), None)
    patience: float = setting(duration("0s"), 120.0)
    give_up_after: float = setting(duration("1m"), 86400.0)
    object: ObjectSettings = section(ObjectSettings)

    @staticmethod
    def check(values: Mapping[str, Any], given: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between keys: a key and the problem."""
        kind = values.get("kind")
        if kind in ("s3", "gcs") and "bucket" not in given:
            yield "bucket", "required"
        if kind == "s3" and "credentials" in given:
            yield "credentials", "only with kind: gcs (S3 has access_key and secret_key)"
        if (values.get("credentials") or "").lstrip().startswith(("{", "-----")):
            yield "credentials", "has to be the path of a key file, not the key itself"
        if (values.get("bucket") or "").partition("://")[1]:
            yield "bucket", "has to be the bucket's name alone, without gs:// or s3://"
        if kind == "s3" and "endpoint" not in given and values.get("profile", "auto") not in ("auto", "aws"):
            yield "endpoint", f"required with profile: {values['profile']} (without it Amazon's is asked)"
        if kind in ("gcs", "embedded") and values.get("profile", "auto") != "auto":
            yield "profile", "only with kind: s3 (kind: gcs has Google's own limits)"
        if kind == "gcs":
            yield from _not_at_google(values, given)
        for name, other in (("access_key", "secret_key"), ("secret_key", "access_key")):
            if name not in given and other in given:
                yield name, f"required, since {other} is given"
        if "session_token" in given and "access_key" not in given:
            yield "session_token", "needs access_key and secret_key"


def _not_at_google(values: Mapping[str, Any], given: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield what Google Cloud Storage does not have."""
    if "access_key" in given:
        yield "access_key", "not with kind: gcs, which has credentials (for HMAC keys: kind: s3 and Google's endpoint)"
    made = values.get("object")
    if made is not None and made.tags:
        yield "object.tags", "not with kind: gcs, whose objects have none"
    if made is not None and made.encryption:
        yield "object.encryption", "not with kind: gcs; name a key of Cloud KMS in kms_key"


@frozen(kw_only=True)
class AuthSettings:
    """The application that decides who may upload."""

    url: str = setting(called_url, shown=without_query)
    #: Lower-case names of the client's headers that are shown to the application.
    forward: tuple[str, ...] = setting(listed(forwarded_header), ("authorization", "cookie"))
    timeout: float = setting(duration("10ms", "10m"), 5.0)
    #: 0: every question is asked.
    cache: float = setting(duration("0s", "1h"), 30.0)


@frozen(kw_only=True)
class EventSettings:
    """The application that hears what becomes of uploads."""

    url: str = setting(called_url, shown=without_query)
    #: Required but for the format ``tusd``.
    secret: Secret | None = setting(webhook_secret, None)
    types: tuple[str, ...] = setting(listed(choice(*EVENTS.values(), PROGRESS), least=1), ("upload.finished",))
    wait: bool = setting(boolean, False)
    format: str = setting(choice("resumable", "tusd"), "resumable")
    timeout: float = setting(duration("10ms", "10m"), 15.0)
    give_up_after: float = setting(duration("1m"), 3 * 86400.0)

    @staticmethod
    def check(values: Mapping[str, Any], given: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between keys: a key and the problem."""
        if values.get("format") == "resumable" and "secret" not in given:
            yield "secret", "required: events are signed (make one with: echo whsec_$(openssl rand -base64 32))"


@frozen(kw_only=True)
class CleanupSettings:
    """What becomes of uploads that nobody goes on with."""

    after: float = setting(duration("1m"), 7 * 86400.0)
    every: float = setting(duration("1s"), 3600.0)
    keep: float = setting(duration("1m"), 30 * 86400.0)


@frozen(kw_only=True)
class LimitSettings:
    """What one process takes on."""

    max_size: int | None = setting(size("1", None), None)
    memory: int = setting(size("1MiB"), 256 * MIB)
    idle_timeout: float = setting(duration("100ms"), 60.0)
    connections: int = setting(whole(1, 1_000_000), 10_000)
    drain: float = setting(duration("0s"), 30.0)
    drain_delay: float = setting(duration("0s", "10m"), 0.0)


@frozen(kw_only=True)
class CorsSettings:
    """Which pages of other origins may speak to the service."""

    origins: tuple[str, ...] = setting(listed(origin), ())
    credentials: bool = setting(boolean, False)

    @staticmethod
    def check(values: Mapping[str, Any], given: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield what is wrong between keys: a key and the problem."""
        if values.get("credentials") and "*" in values.get("origins", ()):
            yield "credentials", 'must be false where origins has "*": any page could act for whoever opens it'


@frozen(kw_only=True)
class OperationsSettings:
    """Where those look who watch the service."""

    #: Empty: ``/metrics``, ``/readyz`` and ``/healthz`` are where the uploads are.
    listen: tuple[str, ...] = setting(listed(parse_endpoint), ())


@frozen(kw_only=True)
class LogSettings:
    """How the log is written."""

    format: str = setting(choice("text", "json"), "text")
    level: str = setting(choice("debug", "info", "warn", "error"), "info")


@frozen(kw_only=True)
class Settings:
    """The whole configuration."""

    listen: tuple[str, ...] = setting(listed(parse_endpoint, least=1), ("tcp:8080",))
    #: Without a slash at its end; None for what the client asked for.
    public_url: str | None = setting(base_url, None)
    #: Networks, and ``unix`` for whoever connects to a Unix socket.
    trusted_proxies: tuple[str, ...] = setting(listed(proxy), ())
    workers: int = setting(whole(1, 256), 1)
    store: StoreSettings = section(StoreSettings)
    ledger: SecretUrl = setting(ledger_url, SecretUrl("sqlite:///resumable.sqlite3"))
    auth: AuthSettings | Literal["open"] = section(
        AuthSettings, word="open", required="auth: open lets everyone upload"
    )
    events: EventSettings | None = optional_section(EventSettings)
    #: Which protocols are spoken.
    protocols: tuple[str, ...] = setting(listed(choice(*PROTOCOLS), least=1), PROTOCOLS)
    #: Whether GET of a finished upload leads to its object in the store.
    download: str = setting(off_or("redirect"), "off")
    #: What becomes of digests of a whole object that cannot be combined from its parts.
    digest: str = setting(choice("declared", "verify"), "declared")
    #: Whether there is a page to upload from at ``/``.
    page: bool = setting(boolean, True)
    cors: CorsSettings = section(CorsSettings)
    cleanup: CleanupSettings = section(CleanupSettings)
    limits: LimitSettings = section(LimitSettings)
    operations: OperationsSettings = section(OperationsSettings)
    log: LogSettings = section(LogSettings)

    @staticmethod
    def check(values: Mapping[str, Any], given: Collection[str]) -> Iterator[tuple[str, str]]:
        """Yield what several workers cannot share: a key and the problem."""
        if values.get("workers", 1) == 1:
            return
        if "store" in values and values["store"].kind == "embedded":
            yield "workers", "must be 1 with store.kind: embedded, which is for trying things out"
        elif "ledger" in values and in_memory(values["ledger"]):
            yield "workers", "must be 1 with a ledger in memory; give it a file (sqlite:///FILE) or PostgreSQL"
