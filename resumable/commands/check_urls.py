"""The check of the main application's URLs: does anybody answer?"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from resumable.commands.finding import CheckStatus, Finding
from resumable.stores.transport.exchange import root_cause


async def check_auth(url: str, timeout: float, reactor: Any) -> Finding:
    """Ask as the service would, for a client without credentials. A no is as good an answer as a yes.

    :param timeout: seconds.
    """
    headers = {"X-Original-Method": ["GET"], "X-Original-URI": ["/"], "X-Upload-Action": ["status"]}
    return await _look("auth", "GET", url, headers, timeout, reactor)


async def check_events(url: str, timeout: float, reactor: Any) -> Finding:
    """Look whether something answers at the URL, without posting an event.

    :param timeout: seconds.
    """
    return await _look("events", "OPTIONS", url, {}, timeout, reactor)


async def _look(
    kind: str, method: str, url: str, headers: dict[str, list[str]], timeout: float, reactor: Any
) -> Finding:
    # The query may hold a token.
    shown = urlsplit(url)._replace(query="").geturl()
    asking = Deferred.fromCoroutine(_ask(method, url, headers, timeout, reactor))
    try:
        status = await asking.addTimeout(timeout, reactor, _no_answer)
    except CancelledError:
        raise
    except Exception as error:  # what an Agent fails with has no base class of its own
        cause = root_cause(error)
        says = f"cannot be reached: {str(cause).rstrip('.') or type(cause).__name__}"
        return Finding(kind, shown, CheckStatus.FAILED, says, f"look at {kind}.url and whether the application runs")
    return _judge(kind, method, shown, status)


async def _ask(method: str, url: str, headers: dict[str, list[str]], timeout: float, reactor: Any) -> int:
    client = HTTPClient(Agent(reactor, connectTimeout=timeout))
    # The body is not read: the process will end soon, and the connection with it.
    response: IResponse = await client.request(
        method, url, headers=Headers(headers), allow_redirects=False, unbuffered=True
    )
    status: int = response.code
    return status


def _judge(kind: str, method: str, shown: str, status: int) -> Finding:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    says = f"answered {status} {phrase}".strip()
    # An application that does not know OPTIONS may answer with 501.
    if status >= 500 and not (status == 501 and method == "OPTIONS"):
        return Finding(kind, shown, CheckStatus.FAILED, says, "look at the application's log")
    if status == 404:
        return Finding(kind, shown, CheckStatus.WARNING, f"{says} to {method}", f"is the path in {kind}.url right?")
    if 300 <= status < 400:
        return Finding(
            kind, shown, CheckStatus.WARNING, says, f"redirects are not followed: name the target in {kind}.url"
        )
    return Finding(kind, shown, CheckStatus.OK, says)


def _no_answer(_: object, seconds: float) -> NoReturn:
    raise TimeoutError(f"no answer within {seconds:g} s")
