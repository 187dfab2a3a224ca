"""What every request passes first: its id, who asks, log and metrics, and a net below for what nobody foresaw."""

import hmac
import json
import logging
import time
from collections.abc import Collection
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusioncam.runtime.service.logs import ACCESS, ERRORS, REQUEST_ID, request_id
from fusioncam.runtime.service.metrics import Metrics
from fusioncam.runtime.service.refusals import answer, refused

HEADER = "X-Request-Id"
FREE = ("/v2/health/",)
GUARDED = ("/v2", "/metrics")
FOREIGN = ("cross-site", "same-site")  # what browsers say of requests that another site's page makes
ADDED = {  # where there is none yet: the page has a stricter policy
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
}
QUIET = (*FREE, "/metrics")  # asked every few seconds by probes: in the log for who wants to debug only


class Front:
    """An ASGI application around another.

    Args:
        app: The application.
        token: What guarded routes ask for; None for nothing. Free are the health routes, which probes ask, and the
            pages (`/`, `/docs`), which are the same for everybody and ask for the token themselves. Without a token,
            guarded routes do not answer the web pages of other sites.
        metrics: Counts.
        models: Names of the models.
    """

    def __init__(self, app: ASGIApp, token: str | None, metrics: Metrics, models: Collection[str]) -> None:
        self._app, self._metrics, self._models = app, metrics, frozenset(models)
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
                await answer(error)(scope, receive, sending)
        except Exception:
            ERRORS.exception("a request failed in a way nobody thought of; this is a bug, please report it")
            if not status:
                excuse = f"something went wrong inside the service; its log has more under request id {known}"
                await refused(500, excuse)(scope, receive, sending)
        finally:
            self._book(scope, status, time.perf_counter() - begun, said)
            REQUEST_ID.reset(mark)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """What a request is turned away with, unless it may go on."""
        if scope["path"].startswith(FREE) or not scope["path"].startswith(GUARDED):
            return None
        if self._wanted is not None and not _has_token(headers, self._wanted):
            wanted = "give the service's token in the header Authorization: Bearer TOKEN"
            return refused(401, wanted, {"WWW-Authenticate": "Bearer"})
        if self._wanted is None and headers.get("Sec-Fetch-Site") in FOREIGN and not _is_link(scope, headers):
            wanted = "web pages of other sites are not answered; start the service with a token, and send it"
            return refused(403, wanted)
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


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether somebody follows a link, as from Prometheus to /metrics: what that opens, the other site cannot read."""
    return scope["method"] == "GET" and headers.get("Sec-Fetch-Mode") == "navigate"
