"""The check of the main application's URLs: does anybody answer, and as it has to?"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NoReturn
from urllib.parse import urlsplit

from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IResponse

from resumable.callbacks.caller import CallFailure
from resumable.callbacks.webhooks import Webhooks
from resumable.commands.finding import CheckStatus, Finding
from resumable.settings import EventSettings
from resumable.stores.transport.exchange import root_cause


async def check_auth(url: str, timeout: float, reactor: Any) -> Finding:
    """Ask as the service would, for a client without credentials. A no is as good an answer as a yes.

    :param timeout: seconds.
    """
    headers = {"X-Original-Method": ["GET"], "X-Original-URI": ["/"], "X-Upload-Action": ["status"]}
    return await _look("auth", "GET", url, headers, timeout, reactor)


async def check_events(settings: EventSettings, reactor: Any) -> Finding:
    """Send the application a signed event that is about nothing, and one with a forged signature.

    It has to answer 2xx to the first, whose type it does not know, as it does to every event that it takes; and 4xx to the
    second, which proves that it checks signatures with the same secret.
    """
    secret = None if settings.secret is None else settings.secret.reveal()
    webhooks = Webhooks(
        url=settings.url, secret=secret, form=settings.format, timeout=settings.timeout, reactor=reactor
    )
    try:
        status = await webhooks.test()
        forged = await webhooks.test(forged=True) if webhooks.signed and 200 <= status < 300 else None
    except CallFailure as failure:
        # The detail begins with the name of the error's class.
        why = failure.detail.strip(" ()")
        return _unreachable("events", webhooks.shown, why.partition(": ")[2] or why or failure.reason)
    finally:
        await webhooks.close()
    return judge_events(webhooks.shown, status, forged)


def judge_events(shown: str, status: int, forged: int | None) -> Finding:
    """Return what the answers to a test event mean.

    :param status: of the answer to the one that is signed.
    :param forged: of the answer to the one with a wrong signature; None: there was none.
    """
    says, fail = f"answered {_named(status)} to a signed test event", CheckStatus.FAILED
    if status in (400, 401, 403):
        advice = (
            "has the application the same secret as events.secret? It has to answer 2xx to types that it does not know"
        )
        return Finding("events", shown, fail, says, advice)
    if status in (404, 405, 501):
        return Finding("events", shown, fail, says, "is the path in events.url right, and does it take POST?")
    if 300 <= status < 400:
        return Finding("events", shown, fail, says, "redirects are not followed: name the target in events.url")
    if not 200 <= status < 300:
        return Finding("events", shown, fail, says, "look at the application's log")
    if forged is None:
        return Finding("events", shown, CheckStatus.OK, says)
    if 200 <= forged < 300:
        says = f"{says}, and {_named(forged)} to one with a forged signature"
        advice = "have the application check signatures: else everybody can tell it of uploads"
        return Finding("events", shown, CheckStatus.WARNING, says, advice)
    return Finding("events", shown, CheckStatus.OK, f"{says}, and refuses a forged one with {forged}")


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
        return _unreachable(kind, shown, str(cause) or type(cause).__name__)
    return _judge(kind, method, shown, status)


def _unreachable(kind: str, shown: str, why: str) -> Finding:
    says = f"cannot be reached: {why.rstrip('.')}"
    return Finding(kind, shown, CheckStatus.FAILED, says, f"look at {kind}.url and whether the application runs")


def _named(status: int) -> str:
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
    return f"{status} {phrase}".strip()


async def _ask(method: str, url: str, headers: dict[str, list[str]], timeout: float, reactor: Any) -> int:
    client = HTTPClient(Agent(reactor, connectTimeout=timeout))
    # The body is not read: the process will end soon, and the connection with it.
    response: IResponse = await client.request(
        method, url, headers=Headers(headers), allow_redirects=False, unbuffered=True
    )
    status: int = response.code
    return status


def _judge(kind: str, method: str, shown: str, status: int) -> Finding:
    says = f"answered {_named(status)}"
    if status >= 500:
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
