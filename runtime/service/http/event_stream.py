"""An answer of server-sent events: preliminary maps while the explanation runs, and the explanation."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.http.waiting import unless_gone

EVENTS = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # a proxy shall pass every event on at once


class Latest:
    """The latest preliminary explanation, from the thread that makes it to the event loop; earlier ones are dropped.

    A client that reads slowly gets fewer.
    """

    def __init__(self) -> None:
        self._loop, self._changed = asyncio.get_running_loop(), asyncio.Event()
        self._explanation: Explanation | None = None

    def put(self, explanations: Sequence[Explanation]) -> None:
        """Take the explanations of one picture, in any thread."""
        self._loop.call_soon_threadsafe(self._take, explanations[0])

    def _take(self, explanation: Explanation) -> None:
        self._explanation = explanation
        self._changed.set()

    async def arrival(self) -> None:
        """Wait until there is one."""
        await self._changed.wait()

    def get(self) -> Explanation | None:
        """Return the latest one, once."""
        explanation, self._explanation = self._explanation, None
        self._changed.clear()
        return explanation


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
