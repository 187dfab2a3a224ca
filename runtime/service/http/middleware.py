"""The middleware of every request: its id, access, log and metrics, and an answer to unexpected errors."""

import json
import logging
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusioncam.runtime.service.errors import RETRY_AFTER, error_json, error_response
from fusioncam.runtime.service.http.access import FREE, refusal
from fusioncam.runtime.service.monitoring.logs import ACCESS, ERRORS, REQUEST_ID, request_id
from fusioncam.runtime.service.monitoring.metrics import Metrics

HEADER = "X-Request-Id"
SECURITY = {  # headers to add where there is none yet: the page has a stricter policy
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "base-uri 'none'; frame-ancestors 'none'; object-src 'none'",
}
QUIET = (*FREE, "/metrics")  # asked every few seconds by probes: in the log for debugging only


class RequestMiddleware:
    """An ASGI application around another one.

    Args:
        app: The application.
        token: See `access.refusal`.
        crowded: Tells whether there are as many connections as the process may have: then all requests are refused.
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
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and log it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers, begun, status, error_body = Headers(scope=scope), time.perf_counter(), 0, b""
        known_id = request_id(headers.get(HEADER))
        mark = REQUEST_ID.set(known_id)

        async def sending(message: Message) -> None:
            nonlocal status, error_body
            if message["type"] == "http.response.start":
                status = message["status"]
                added = MutableHeaders(scope=message)
                added[HEADER] = known_id
                for name, value in SECURITY.items():
                    added.setdefault(name, value)
            elif status >= 400:
                error_body += message.get("body", b"")
            await send(message)

        self._metrics.begun()
        try:
            await (self._refusal(scope, headers) or self._app)(scope, receive, sending)
        except MemoryError as error:
            ERRORS.warning("a request was not answered: %s", error)
            if not status:
                await error_response(error)(scope, receive, sending)
        except Exception:
            ERRORS.exception("a request failed unexpectedly; this is a bug, please report it")
            if not status:
                message = f"something went wrong inside the service; its log has more under request id {known_id}"
                await error_json(500, message)(scope, receive, sending)
        finally:
            self._record(scope, status, time.perf_counter() - begun, error_body)
            REQUEST_ID.reset(mark)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Return the answer that refuses a request, or None where it may go on."""
        if self._crowded():
            message = "as many connections are open as the service may have; ask again soon, over fewer"
            return error_json(503, message, {"Retry-After": str(RETRY_AFTER), "Connection": "close"})
        return refusal(scope, headers, self._token)

    def _record(self, scope: Scope, status: int, seconds: float, error_body: bytes) -> None:
        """Count an answer and log it."""
        route = getattr(scope.get("route"), "path", "none")
        model = scope.get("path_params", {}).get("model", "")
        model = model if model in self._models else ""
        self._metrics.answered(route, model, status, seconds)
        line = {"method": scope["method"], "path": scope["path"], "route": route, "model": model, "status": status}
        line |= {"seconds": round(seconds, 6), "client": (scope.get("client") or (None,))[0]}
        with suppress(ValueError, KeyError, TypeError):
            line["error"] = json.loads(error_body)["error"]
        level = logging.DEBUG if scope["path"].startswith(QUIET) else logging.INFO
        ACCESS.log(level, "answered", extra=line)
