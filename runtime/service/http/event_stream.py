"""An answer of server-sent events: preliminary maps while the explanation runs, and the explanation."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fusioncam.runtime.service.http.waiting import unless_gone

EVENTS = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy shall pass every event on at once


class EventStream(Response):
    """An answer of events; each must be read within a limited time, or the connection closes.

    Args:
        events: Yields them; closed where the client leaves.
        seconds: Time to send one.
        sent: Called when the last is sent, or given up.
    """

    def __init__(self, events: AsyncGenerator[bytes], seconds: float, sent: Callable[[], None]) -> None:
        super().__init__(None, 200, HEADERS, EVENTS)
        del self.headers["content-length"]
        self._events, self._seconds, self._sent = events, seconds, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events as they come."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await unless_gone(receive, self._send(send))
        except (ClientDisconnect, TimeoutError):
            pass
        finally:
            await self._events.aclose()
            self._sent()

    async def _send(self, send: Send) -> None:
        async for event in self._events:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
