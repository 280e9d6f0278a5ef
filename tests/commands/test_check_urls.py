"""The look at the URL for events, which nothing is posted to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from pytest_twisted import ensureDeferred
from twisted.internet import reactor

from resumable.commands.check_urls import check_events
from resumable.commands.finding import CheckStatus


@pytest.fixture
def receiver() -> Iterator[Callable[[int], str]]:
    """A URL that answers OPTIONS with a status, and nothing else with anything but 501."""
    servers = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_OPTIONS(self) -> None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/uploads"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (204, CheckStatus.OK),
        (405, CheckStatus.OK),
        (501, CheckStatus.OK),
        (404, CheckStatus.WARNING),
        (308, CheckStatus.WARNING),
        (500, CheckStatus.FAILED),
        (503, CheckStatus.FAILED),
    ],
)
@ensureDeferred
async def test_what_the_receiver_answers(receiver: Callable[[int], Any], status: int, verdict: CheckStatus) -> None:
    """Somebody who knows no OPTIONS is there all the same; a token in the query is not shown."""
    url = receiver(status)
    finding = await check_events(f"{url}?token=hidden", 5.0, reactor)
    assert (finding.kind, finding.name, finding.verdict) == ("events", url, verdict)
    assert f"answered {status}" in finding.says
