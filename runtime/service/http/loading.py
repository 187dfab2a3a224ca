"""The application while the models are being loaded: alive, but not ready."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

from anyio import to_thread
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from fusioncam.runtime.service.errors import RETRY_AFTER, error_json
from fusioncam.runtime.service.side_server import SideServer

LIVE = "/v2/health/live"
LOADING = "the models are being loaded; ask again soon"


class LoadingApp:
    """An ASGI application that opens another one in a thread, and passes requests on to it from then on.

    Args:
        open_app: Returns the application; takes its time.
        opened: Called, in the event loop, once the application is there, or `error`.
        at_once: Whether requests are answered meanwhile, that the service is not ready; else they wait.
        side_server: Starts and stops with the application.

    Attributes:
        error: The reason why the application cannot be opened.
    """

    def __init__(
        self,
        open_app: Callable[[], FastAPI],
        opened: Callable[[], None],
        at_once: bool = True,
        side_server: SideServer | None = None,
    ) -> None:
        self._open_app, self._opened, self._at_once = open_app, opened, at_once
        self._side_server = side_server or SideServer()
        self._app: FastAPI | None = None
        self.error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run one lifespan."""
        if scope["type"] == "lifespan":
            await self._run_lifespan(receive, send)
        elif self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == LIVE:
            await JSONResponse({"live": True})(scope, receive, send)
        elif scope["type"] == "http":
            await error_json(503, LOADING, {"Retry-After": str(RETRY_AFTER)})(scope, receive, send)

    async def _run_lifespan(self, receive: Receive, send: Send) -> None:
        async with AsyncExitStack() as lifespan:
            await receive()
            opening = asyncio.create_task(self._open(lifespan))
            if not self._at_once:
                await asyncio.wait([opening])
            await send({"type": "lifespan.startup.complete"})
            await receive()
            opening.cancel()
            await asyncio.wait([opening])
            await self._side_server.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _open(self, lifespan: AsyncExitStack) -> None:
        try:
            if self._at_once:
                await self._side_server.start()
            app = await to_thread.run_sync(self._open_app, abandon_on_cancel=True)
            await lifespan.enter_async_context(app.router.lifespan_context(app))
            if not self._at_once:
                await self._side_server.start()
            self._app = app
        except Exception as error:
            self.error = error
        self._opened()
