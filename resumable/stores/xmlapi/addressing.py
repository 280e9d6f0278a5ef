"""Where buckets are: in the path or in the host's name of an endpoint."""

from __future__ import annotations

from urllib.parse import quote

from attrs import evolve

from resumable.stores.transport.base import Base, parse_base
from resumable.stores.transport.proxies import proxy_for


def bucket_base(endpoint: str, bucket: str, *, in_host: bool = False) -> Base:
    """Return the base of a bucket at an endpoint.

    :param in_host: whether the bucket is put before the host's name, instead of at the end of the path.
    :raises ValueError: the endpoint is not an http or https URL with a host.
    """
    if in_host:
        return parse_base(endpoint, subdomain=bucket)
    base = parse_base(endpoint)
    return evolve(base, prefix=f"{base.prefix}/{quote(bucket, safe='')}")


class EndpointAddressing:
    """Finds the base of a bucket at an endpoint, once for each bucket.

    :param in_host: as `bucket_base`.
    :param proxies: whether requests to this store use the environment's proxies.
    """

    def __init__(self, endpoint: str | None, *, in_host: bool = False, proxies: bool = True) -> None:
        if endpoint is not None:
            parse_base(endpoint)
        self._endpoint = endpoint
        self._in_host = in_host
        self._proxies = proxies
        self._known: dict[str, Base] = {}

    async def base(self, bucket: str) -> Base:
        """Return the bucket's base.

        :raises resumable.stores.transport.proxies.BadProxy: what the environment names as its proxy cannot be one.
        """
        known = self._known.get(bucket)
        if known is None:
            known = await self._locate(bucket)
            if self._proxies:
                known = evolve(known, proxy=proxy_for(known.url))
            self._known[bucket] = known
        return known

    async def _locate(self, bucket: str) -> Base:
        assert self._endpoint is not None, "whoever has none locates buckets otherwise"
        return bucket_base(self._endpoint, bucket, in_host=self._in_host)
