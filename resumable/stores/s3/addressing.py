"""Where a bucket stands in a URL: in the host's name (virtual) or at the head of the path."""

from __future__ import annotations

from typing import Any

from resumable.stores.threads import ThreadSingleFlight
from resumable.stores.transport.base import Base, parse_base
from resumable.stores.xmlapi.addressing import EndpointAddressing


class Addressing(EndpointAddressing):
    """Finds the base of a bucket, once for each bucket.

    :param endpoint: URL of a store that is not AWS. If None, botocore's rules say where the bucket is in the region.
        (They put a name with dots, which no certificate covers, into the path.)
    :param style: ``path``, ``virtual``, or ``auto``: virtual at AWS and path elsewhere.
    :param proxies: whether requests to this store use the environment's proxies.
    """

    def __init__(
        self, reactor: Any, region: str, endpoint: str | None, style: str = "auto", *, proxies: bool = True
    ) -> None:
        if style not in ("auto", "path", "virtual"):
            raise ValueError("addressing is auto, path or virtual")
        super().__init__(endpoint, in_host=style == "virtual", proxies=proxies)
        self._reactor = reactor
        self._region = region
        self._style = style
        self._asked: dict[str, ThreadSingleFlight[Base]] = {}

    async def _locate(self, bucket: str) -> Base:
        if self._endpoint is not None:
            return await super()._locate(bucket)
        if bucket not in self._asked:
            self._asked[bucket] = ThreadSingleFlight(
                self._reactor, lambda: resolve_aws(self._region, bucket, self._style)
            )
        asking = self._asked[bucket]
        try:
            return await asking()
        finally:
            # Every caller that waited comes here, but only the first finds the entry.
            if not asking.running:
                self._asked.pop(bucket, None)


def resolve_aws(region: str, bucket: str, style: str) -> Base:
    """Return where botocore would send a request for the bucket.

    Blocks while it loads megabytes of rules: use a thread.

    Settings of AWS's own tools (``AWS_ENDPOINT_URL``, FIPS and dual-stack endpoints) take effect here.
    """
    from botocore import UNSIGNED
    from botocore.config import Config
    from botocore.session import Session

    # With "auto" botocore would take its old global endpoint for some regions.
    s3 = {"addressing_style": "path" if style == "path" else "virtual", "us_east_1_regional_endpoint": "regional"}
    client = Session().create_client("s3", region, config=Config(signature_version=UNSIGNED, s3=s3))
    url = client.generate_presigned_url("head_object", Params={"Bucket": bucket, "Key": "k"})
    return parse_base(url.partition("?")[0].removesuffix("/k"))
