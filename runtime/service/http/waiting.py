"""Waiting for work: within a time, and as long as the client waits, too."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from fusioncam.errors import DeadlineError

T = TypeVar("T")


async def in_time(work: Coroutine[Any, Any, T], deadline: float, seconds: float, status: int = 504) -> T:
    """Return the result of work that ends before the deadline, in seconds of `time.monotonic()`; else stop the work.

    Raises:
        DeadlineError: The work does not end in time.
        HTTPException: The same, where the status is another than 504.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        if status != 504:
            raise HTTPException(
                status, f"the request did not arrive within {seconds:g} seconds; send it again"
            ) from None
        raise DeadlineError(
            f"the explanation was not done within {seconds:g} seconds; ask for less (budget, method), or allow more "
            "time"
        ) from None


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of work; stop the work where the client leaves first.

    Raises:
        ClientDisconnect: The client left.
    """

    async def disconnect() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(disconnect())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)
