"""An answer that is sent as fast as the client reads, within a limited time."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PIECE = 1 << 16  # bytes


class TimedResponse(Response):
    """An answer in pieces, so that the server waits for the client to read them; after its time the connection closes.

    Args:
        content: The body.
        headers: See `Response`.
        media_type: See `Response`; None where there is no body.
        seconds: Time to send it.
        sent: Called when it is sent, or given up.
    """

    def __init__(
        self,
        content: bytes,
        headers: Mapping[str, str],
        media_type: str | None,
        seconds: float,
        sent: Callable[[], None],
    ) -> None:
        super().__init__(content, 200 if media_type else 204, headers, media_type)
        self._content, self._seconds, self._sent = content, seconds, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer. When its time is over it stays incomplete, and the server closes the connection."""
        try:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for start in range(0, len(self._content), PIECE):
                    piece = self._content[start : start + PIECE]
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            pass
        finally:
            self._sent()
