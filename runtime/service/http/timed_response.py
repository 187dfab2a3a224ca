"""An answer that is sent as fast as it is read, and not for ever."""

import asyncio
from collections.abc import Callable, Mapping

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

PIECE = 1 << 16  # bytes


class TimedResponse(Response):
    """An answer in pieces, so that the server waits until what it holds is read; in time, or the connection is closed.

    Args:
        content: The body.
        headers: See `Response`.
        media_type: See `Response`.
        seconds: It may take to send it.
        sent: Called when it is sent, or given up.
    """

    def __init__(
        self, content: bytes, headers: Mapping[str, str], media_type: str, seconds: float, sent: Callable[[], None]
    ) -> None:
        super().__init__(content, 200, headers, media_type)
        self._content, self._seconds, self._sent = content, seconds, sent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it. Where its time is over it stays incomplete, upon which a server closes the connection."""
        try:
            async with asyncio.timeout(self._seconds):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                for start in range(0, len(self._content), PIECE):
                    await send(_body(self._content[start : start + PIECE], more_body=True))
                await send(_body(b"", more_body=False))
        except TimeoutError:
            pass
        finally:
            self._sent()


def _body(piece: bytes, more_body: bool) -> Message:
    return {"type": "http.response.body", "body": piece, "more_body": more_body}
