"""A request for explanations on its way: received, understood, explained, answered; the heavy parts beside the loop."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fusioncam.errors import BusyError, DeadlineError, FusionCamError, NotFiniteError, UsageError
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.errors import CLIENT_GONE, RefusedError, error_response
from fusioncam.runtime.service.http.timed_response import TimedResponse
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.compression import WORTH_IT, chosen, pack, unpack
from fusioncam.runtime.service.protocol.infer_response import infer_response
from fusioncam.runtime.service.protocol.openapi import BINARY, JSON
from fusioncam.runtime.service.protocol.prepared_request import FIGURES, PreparedRequest, prepare_request
from fusioncam.runtime.service.protocol.request_parser import quote
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

T = TypeVar("T")

# Not what a page from elsewhere can have a browser send without asking us first: text, forms.
TAKEN = (BINARY, JSON)
RETRY_AFTER = 1  # seconds
MOST_NUMBERS = 1 << 22  # of maps as text, in an answer: some 80 MB
GRACE = 1.0  # seconds in which a batcher, which looks at the time between runs, may say itself that it is late


class InferHandler:
    """Answers requests for explanations, a bounded number at a time.

    Args:
        settings: Limits.
        metrics: Counts.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._pool = ThreadPoolExecutor(settings.decoders, "fusioncam-decode")
        self._begun, self._held = 0, 0  # requests, and bytes of their bodies

    def close(self) -> None:
        """End the threads, without waiting for what they decode: nobody can stop that."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, name: str, served: ServedModel) -> Response:
        """The answer to a request for a model's explanations, whatever becomes of it."""
        begun, outcome = time.monotonic(), "fail"
        if self._begun >= self._settings.concurrency:
            return error_response(
                BusyError(f"{self._begun} requests are being worked on; ask again later", RETRY_AFTER)
            )
        self._begun += 1
        try:
            response = await self._answer(request, name, served, begun)
            outcome = "success"
            return response
        except (FusionCamError, MemoryError) as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        finally:
            if outcome == "fail":
                self._let_go()
            self._metrics.inferred(name, outcome, time.monotonic() - begun)

    def _let_go(self) -> None:
        """A request is not worked on any more; where it ended well, not before its answer is sent."""
        self._begun -= 1

    async def _answer(self, request: Request, name: str, served: ServedModel, begun: float) -> Response:
        asked = await self._asked(request, served, begun)
        self._metrics.stage(name, "decode", asked.seconds)
        deadline = asked.jobs[0].deadline
        work = _unless_gone(request, self._explained(name, served, asked))
        found = await _in_time(work, deadline + GRACE, deadline - begun)
        encoding = chosen(request.headers.get("Accept-Encoding"))

        def packed() -> Response:
            start = time.perf_counter()
            content, length = infer_response(name, served, asked, found, begun)
            added = {"Vary": "Accept-Encoding"} | ({} if length is None else {HEADER_LENGTH: str(length)})
            if encoding is not None and len(content) >= WORTH_IT:
                content = pack(content, encoding)
                added["Content-Encoding"] = encoding
            self._metrics.stage(name, "encode", time.perf_counter() - start)
            kind = JSON if length is None else BINARY
            return TimedResponse(content, added, kind, self._settings.timeout, self._let_go)

        return await self._beside(packed)

    async def _asked(self, request: Request, served: ServedModel, begun: float) -> PreparedRequest:
        """What a request asks for; its body is let go of once that is known."""
        settings, headers = self._settings, request.headers
        _check_type(headers.get("Content-Type"))
        parts: list[bytes] = []
        try:
            await _in_time(self._receive(request, parts), begun + settings.timeout, settings.timeout, 408)

            def understood() -> PreparedRequest:
                plain = unpack(b"".join(parts), headers.get("Content-Encoding"), settings.max_body)
                return prepare_request(served, settings, plain, headers.get(HEADER_LENGTH), begun, settings.timeout)

            asked = await _in_time(self._beside(understood), begun + settings.timeout, settings.timeout)
        finally:
            self._held -= sum(map(len, parts))
        _check_numbers(asked, served)
        return asked

    async def _receive(self, request: Request, parts: list[bytes]) -> None:
        """Append the body to `parts`, of which no more than `max_body` bytes are held, and `max_held` of all requests.

        Raises:
            RefusedError: 413 where the body is longer.
            UsageError: The length of the body is no number.
            BusyError: Others hold as much already.
            ClientDisconnect: The client left.
        """
        limit, size = self._settings.max_body, _declared(request.headers.get("Content-Length", "0"))
        if size <= limit:
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > limit:
                    break
                if self._held + len(part) > max(self._settings.max_held, limit):
                    raise BusyError("other requests fill the memory set apart for bodies; ask again soon", RETRY_AFTER)
                self._held += len(part)
                parts.append(part)
        if size > limit:
            raise RefusedError(
                413, f"the body has more than {limit:,} bytes, the limit: send a smaller picture, or fewer"
            )

    async def _explained(self, name: str, served: ServedModel, asked: PreparedRequest) -> Sequence[Explanation]:
        """The explanations of all pictures of a request; if one fails, the others are given up.

        Raises:
            FusionCamError: One fails.
        """

        async def explained(explaining: asyncio.Task[Explanation]) -> Explanation:
            found = await explaining
            waited = time.monotonic() - start - sum(found.timing.values())
            self._metrics.stage(name, "queue", max(waited, 0.0))
            return found

        start = time.monotonic()
        works = served.batcher.explain_all(asked.jobs)
        try:
            return await asyncio.gather(*map(explained, works))
        except NotFiniteError as error:
            if asked.prepared:  # for numbers that no picture has: they are the client's
                raise UsageError(str(error)) from error
            raise
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)

    async def _beside(self, work: Callable[[], T]) -> T:
        """Do work in a thread, so that the loop goes on."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _check_type(given: str | None) -> None:
    """Raise RefusedError (415) for a body that says it is neither JSON nor binary; tritonclient does not say at all."""
    if given is not None and given.partition(";")[0].strip().lower() not in TAKEN:
        raise RefusedError(
            415,
            f"the body's type is {quote(given)}; send Content-Type: {JSON}, or {BINARY} where binary tensors follow",
            {"Accept": ", ".join(TAKEN)},
        )


def _check_numbers(asked: PreparedRequest, served: ServedModel) -> None:
    """Raise UsageError where an answer would be too much text."""
    maps = sum(not wanted.binary and wanted.name not in FIGURES for wanted in asked.outputs)
    numbers = maps * len(asked.jobs) * math.prod(served.size)
    if numbers > MOST_NUMBERS:
        raise UsageError(
            f"the maps would be {numbers:,} numbers in JSON, the limit is {MOST_NUMBERS:,}: set the parameter "
            "binary_data_output, or ask for fewer methods or pictures"
        )


def _declared(length: str) -> int:
    """What Content-Length says; raises UsageError where that is no number."""
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise UsageError(f"Content-Length must be a number of bytes, not {quote(length)}")
    return int(length)


async def _in_time(work: Coroutine[Any, Any, T], deadline: float, given: float, status: int = 504) -> T:
    """What work gives, if it does so before the deadline, in seconds of `time.monotonic()`; else it is stopped.

    Raises:
        DeadlineError: It does not.
        RefusedError: It does not, and another status than 504 says so.
    """
    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await work
    except TimeoutError:
        if status != 504:
            raise RefusedError(status, f"the request did not arrive within {given:g} seconds; send it again") from None
        raise DeadlineError(
            f"the explanation was not done within {given:g} seconds; ask for less (budget, method), or allow more time"
        ) from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What work gives; it is stopped where the client leaves first.

    Raises:
        ClientDisconnect: It left.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
