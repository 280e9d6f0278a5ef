"""A nightly archive, as many an old Twisted shop has one on txAWS: callbacks, `FileBodyProducer`, `inlineCallbacks`.

    archive.py put BUCKET FILE [KEY]     store a file, whatever its size
    archive.py get BUCKET KEY FILE       fetch it, with little memory
    archive.py list BUCKET [PREFIX]
    archive.py prune BUCKET PREFIX DAYS  delete what is older

Keys and region come from where AWS's own tools have them. Of another store ``S3_ENDPOINT`` is the URL.
What was ``from txaws.s3.client import S3Client`` is the line below; see docs/from-txaws.md for the rest.
"""

import os
import sys
from datetime import datetime, timedelta, timezone

from twisted.internet import defer, protocol, task
from twisted.web.client import FileBodyProducer, ResponseDone

from resumable.s3 import S3Client, S3Error


class ToFile(protocol.Protocol):
    """Writes an object's bytes to a file, which takes the place of an older one only when it is whole."""

    def __init__(self, path):
        self.path, self.part = path, f"{path}.part"
        self.size = 0

    def connectionMade(self):
        self.file = open(self.part, "wb")  # noqa: SIM115 (closed in connectionLost)

    def dataReceived(self, data):
        self.file.write(data)
        self.size += len(data)

    def connectionLost(self, reason):
        self.file.close()
        if reason.check(ResponseDone):
            os.replace(self.part, self.path)
        else:
            print("the file is not whole:", reason.getErrorMessage(), file=sys.stderr)


def put(client, bucket, path, key=None):
    producer = FileBodyProducer(open(path, "rb"))  # noqa: SIM115 (it closes the file)
    stored = client.put_object(bucket, key or os.path.basename(path), body_producer=producer)
    stored.addCallback(lambda etag: print("stored, with ETag", etag))
    return stored


def get(client, bucket, key, path):
    receiver = ToFile(path)
    fetched = client.get_object(bucket, key, receiver=receiver)
    fetched.addCallback(lambda _: print(receiver.size, "bytes"))
    return fetched


@defer.inlineCallbacks
def each(client, bucket, prefix, then):
    """Call `then` with every object, page by page; it may return a Deferred."""
    marker = None
    while True:
        page = yield client.get_bucket(bucket, marker=marker, prefix=prefix)
        for item in page.contents:
            yield then(item)
        if not page.is_truncated:
            return
        marker = page.contents[-1].key


def list_(client, bucket, prefix=""):
    return each(client, bucket, prefix, lambda item: print(f"{item.size:12}  {item.key}"))


def prune(client, bucket, prefix, days):
    before = datetime.now(timezone.utc) - timedelta(days=float(days))

    def look(item):
        if item.modification_date < before:
            print("deleting", item.key)
            return client.delete_object(bucket, item.key)

    return each(client, bucket, prefix, look)


COMMANDS = {"put": put, "get": get, "list": list_, "prune": prune}


@defer.inlineCallbacks
def main(reactor, command, *arguments):
    client = S3Client(
        endpoint=os.environ.get("S3_ENDPOINT"),
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        reactor=reactor,
    )
    try:
        yield COMMANDS[command](client, *arguments)
    except S3Error as error:
        # What may pass has been tried again for two minutes by now.
        raise SystemExit(f"{command}: {error}") from None
    finally:
        yield client.close()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    task.react(main, sys.argv[1:])
