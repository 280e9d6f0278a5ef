"""Where a bucket is: in the host's name (virtual) or at the head of the path, at AWS or at an endpoint of one's own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlsplit

from attrs import evolve, frozen

from resumable.stores.proxies import Proxy, proxy_for
from resumable.stores.threads import ThreadSingleFlight


@frozen
class Base:
    """What every URL in a bucket begins with."""

    scheme: str
    host: str
    port: int
    #: The Host header: without the port where it is the scheme's own.
    authority: str
    #: The path, percent-encoded, without a slash at its end; empty for the root.
    prefix: str
    #: What requests go through on their way there.
    proxy: Proxy | None = None

    @property
    def url(self) -> str:
        """The whole."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


def parse_base(url: str, bucket: str | None = None, *, in_host: bool = False) -> Base:
    """The base that `url` is, with the bucket added to it where one is given.

    :raises ValueError: it is not an http or https URL with a host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a store's endpoint is an http:// or https:// URL")
    usual = 443 if parts.scheme == "https" else 80
    port = parts.port or usual
    host, prefix = parts.hostname, parts.path.rstrip("/")
    if bucket is not None and in_host:
        host = f"{bucket}.{host}"
    elif bucket is not None:
        prefix = f"{prefix}/{quote(bucket, safe='')}"
    shown = f"[{host}]" if ":" in host else host
    return Base(parts.scheme, host, port, shown if port == usual else f"{shown}:{port}", prefix)


class Addressing:
    """Finds the base of a bucket, once for each.

    :param endpoint: URL of a store that is not AWS, or None: botocore's rules then say where the bucket is in the region
        (and that a name with dots, which no certificate covers, is put into the path).
    :param style: ``path``, ``virtual``, or ``auto``: virtual at AWS and path elsewhere.
    :param proxies: whether the environment's proxies are for this store.
    """

    def __init__(
        self, reactor: Any, region: str, endpoint: str | None, style: str = "auto", *, proxies: bool = True
    ) -> None:
        if style not in ("auto", "path", "virtual"):
            raise ValueError("addressing is auto, path or virtual")
        if endpoint is not None:
            parse_base(endpoint)
        self._reactor = reactor
        self._region = region
        self._endpoint = endpoint
        self._style = style
        self._proxies = proxies
        self._known: dict[str, Base] = {}
        self._asked: dict[str, ThreadSingleFlight[Base]] = {}

    async def base(self, bucket: str) -> Base:
        """The bucket's base.

        :raises resumable.stores.proxies.BadProxy: the environment names a proxy for it that is none.
        """
        known = self._known.get(bucket)
        if known is None:
            known = await self._locate(bucket)
            if self._proxies:
                known = evolve(known, proxy=proxy_for(known.url))
            self._known[bucket] = known
        return known

    async def _locate(self, bucket: str) -> Base:
        if self._endpoint is not None:
            return parse_base(self._endpoint, bucket, in_host=self._style == "virtual")
        if bucket not in self._asked:
            self._asked[bucket] = ThreadSingleFlight(
                self._reactor, lambda: resolve_aws(self._region, bucket, self._style)
            )
        try:
            return await self._asked[bucket]()
        finally:
            if not self._asked[bucket].running:
                del self._asked[bucket]


def resolve_aws(region: str, bucket: str, style: str) -> Base:
    """In a thread, for it loads megabytes of rules: where botocore would send a request for the bucket.

    Settings of AWS's own tools (``AWS_ENDPOINT_URL``, FIPS and dual-stack endpoints) have their effect here.
    """
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    # With "auto" botocore would take its old global endpoint for some regions.
    s3 = {"addressing_style": "path" if style == "path" else "virtual", "us_east_1_regional_endpoint": "regional"}
    client = Session().create_client("s3", region, config=Config(signature_version=UNSIGNED, s3=s3))
    url = client.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "k"})
    return parse_base(url.partition("?")[0].removesuffix("/k"))
