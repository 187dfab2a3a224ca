"""What every request passes first: its id, who asks, log and metrics, and a net below for what nobody foresaw."""

import hmac
import json
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusioncam.runtime.service.errors import error_json, error_response
from fusioncam.runtime.service.monitoring.logs import ACCESS, ERRORS, REQUEST_ID, request_id
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.request_parser import quote

HEADER = "X-Request-Id"
FREE = ("/v2/health/",)
GUARDED = ("/v2", "/metrics")
OWN = ("same-origin", "none")  # what browsers say in Sec-Fetch-Site of requests that no other site's page makes
PORTS = {"http": 80, "https": 443}
RETRY_AFTER = "1"  # seconds
ADDED = {  # where there is none yet: the page has a stricter policy
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
}
QUIET = (*FREE, "/metrics")  # asked every few seconds by probes: in the log for who wants to debug only


class RequestMiddleware:
    """An ASGI application around another.

    Args:
        app: The application.
        token: What guarded routes ask for; None for nothing. Free are the health routes, which probes ask, and the
            pages (`/`, `/docs`), which are the same for everybody and ask for the token themselves. Without a token,
            guarded routes do not answer the web pages of other sites.
        crowded: Tells whether there are as many connections as the process may have: then nothing is answered but that.
        metrics: Counts.
        models: Names of the models.
    """

    def __init__(
        self,
        app: ASGIApp,
        token: str | None,
        metrics: Metrics,
        models: Collection[str],
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._app, self._metrics, self._models, self._crowded = app, metrics, frozenset(models), crowded
        self._wanted = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, begun, status, said = Headers(scope=scope), time.perf_counter(), 0, b""
        known = request_id(headers.get(HEADER))
        mark = REQUEST_ID.set(known)

        async def sending(message: Message) -> None:
            nonlocal status, said
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                added[HEADER] = known
                for name, value in ADDED.items():
                    added.setdefault(name, value)
            elif status >= 400:
                said += message.get("body", b"")
            await send(message)

        self._metrics.begun()
        try:
            await (self._refusal(scope, headers) or self._app)(scope, receive, sending)
        except MemoryError as error:
            ERRORS.warning("a request was not answered: %s", error)
            if not status:
                await error_response(error)(scope, receive, sending)
        except Exception:
            ERRORS.exception("a request failed in a way nobody thought of; this is a bug, please report it")
            if not status:
                excuse = f"something went wrong inside the service; its log has more under request id {known}"
                await error_json(500, excuse)(scope, receive, sending)
        finally:
            self._book(scope, status, time.perf_counter() - begun, said)
            REQUEST_ID.reset(mark)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What a request is turned away with, unless it may go on."""
        if self._crowded():
            said = "as many connections are open as the service may have; ask again soon, over fewer"
            return error_json(503, said, {"Retry-After": RETRY_AFTER, "Connection": "close"})
        guarded = scope["path"].startswith(GUARDED) and not scope["path"].startswith(FREE)
        return (self._stranger(scope, headers) if guarded else None) or _superfluous(scope)

    def _stranger(self, scope: Scope, headers: Headers) -> Response | None:
        """Return what a request is turned away with for who sends it."""
        if self._wanted is not None and not _has_token(headers, self._wanted):
            wanted = "give the service's token in the header Authorization: Bearer TOKEN"
            return error_json(401, wanted, {"WWW-Authenticate": "Bearer"})
        if self._wanted is None and _is_foreign(headers) and not _is_link(scope, headers):
            wanted = "web pages of other sites are not answered; start the service with a token, and send it"
            return error_json(403, wanted)
        return None

    def _book(self, scope: Scope, status: int, seconds: float, body: bytes) -> None:
        """Count an answer and write it down; `body` is that of an error."""
        route = getattr(scope.get("route"), "path", "none")
        model = scope.get("path_params", {}).get("model", "")
        model = model if model in self._models else ""
        self._metrics.answered(route, model, status, seconds)
        line = {"method": scope["method"], "path": scope["path"], "route": route, "model": model, "status": status}
        line |= {"seconds": round(seconds, 6), "client": (scope.get("client") or (None,))[0]}
        with suppress(ValueError, KeyError, TypeError):
            line["error"] = json.loads(body)["error"]
        level = logging.DEBUG if scope["path"].startswith(QUIET) else logging.INFO
        ACCESS.log(level, "answered", extra=line)


def _has_token(headers: Headers, wanted: bytes) -> bool:
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(token.strip().encode("latin-1", "replace"), wanted)
    return same and scheme.lower() == "bearer"


def _superfluous(scope: Scope) -> Response | None:
    """Return what a request is turned away with for parameters in its address: no route takes any."""
    query = scope["query_string"].decode("latin-1")
    if not query:
        return None
    name = next((name for name, _ in parse_qsl(query, keep_blank_values=True)), query)
    return error_json(
        400, f"there is no query parameter {quote(name)}; parameters of an explanation go into the request's JSON"
    )


def _is_foreign(headers: Headers) -> bool:
    """Return whether a web page of another site asks; only browsers send these headers, and no page can change them."""
    site = headers.get("Sec-Fetch-Site", "none").lower()
    return site not in OWN or any(not _is_host(origin, headers) for origin in headers.getlist("Origin"))


def _is_host(origin: str, headers: Headers) -> bool:
    """Return whether an origin is the host that was asked; the one of files and sandboxes, `null`, is not."""
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"//{headers.get('Host', '')}")
        usual = PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or usual) == (asked.hostname, asked.port or usual)
    except ValueError:
        return False


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link, as from Prometheus to /metrics: what that opens, the other site cannot read."""
    return scope["method"] == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
