"""The way of a request for explanations to its answer: received, prepared, explained, packed."""

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fusioncam.errors import BusyError, FusionCamError, NotFiniteError, UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.batching.job import PendingJob
from fusioncam.runtime.service.errors import CLIENT_GONE, RETRY_AFTER, error_response
from fusioncam.runtime.service.http.event_stream import EventStream, Latest
from fusioncam.runtime.service.http.timed_response import TimedResponse
from fusioncam.runtime.service.http.waiting import in_time, unless_gone
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.compression import WORTH_IT, choose_encoding, compress, decompress
from fusioncam.runtime.service.protocol.openapi import BINARY, JSON
from fusioncam.runtime.service.protocol.outputs import NO_MAPS
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest, prepare_request
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH, write_event
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

T = TypeVar("T")
Answer = Callable[[Request, ServedModel, float], Awaitable[Response]]

# Types that a page from elsewhere cannot have a browser send without asking this service first, unlike text and forms.
TYPES = (BINARY, JSON)
MOST_NUMBERS = 1 << 22  # of maps as text, in an answer: some 80 MB
GRACE = 1.0  # seconds in which a batcher, which looks at the time between runs, may report itself that it is late


class InferHandler:
    """The handler of requests for explanations, a bounded number at a time; heavy work is done in threads.

    Args:
        settings: Limits.
        metrics: Counts.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._pool = ThreadPoolExecutor(settings.decoders, "fusioncam-decode")
        self._requests, self._held = 0, 0  # bytes of bodies are held

    def close(self) -> None:
        """End the threads, without waiting for the photos that they decode: nobody can stop that."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, request: Request, model: ServedModel) -> Response:
        """Return the answer to a request for explanations, errors included."""
        return await self._counted(request, model, self._answer)

    async def stream(self, request: Request, model: ServedModel) -> Response:
        """Return the answer as events, preliminary maps first; errors that come before the first have a status."""
        return await self._counted(request, model, self._stream)

    async def _counted(self, request: Request, model: ServedModel, answer: Answer) -> Response:
        """Return an answer, or that of its error; at most `concurrency` at a time."""
        begun, outcome = time.monotonic(), "fail"
        if self._requests >= self._settings.concurrency:
            busy = BusyError(f"{self._requests} requests are being worked on; ask again later", RETRY_AFTER)
            return error_response(busy)
        self._requests += 1
        try:
            response = await answer(request, model, begun)
            outcome = "success"
            return response
        except (FusionCamError, HTTPException, MemoryError) as error:
            return error_response(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_GONE)
        finally:
            if outcome == "fail":
                self._leave()
            self._metrics.inferred(model.name, outcome, time.monotonic() - begun)

    def _leave(self) -> None:
        """Count a request less; one that succeeds is counted until its answer is sent."""
        self._requests -= 1

    async def _answer(self, request: Request, model: ServedModel, begun: float) -> Response:
        prepared = await self._prepare(request, model, begun)
        self._metrics.stage(model.name, "decode", prepared.seconds)
        deadline = prepared.jobs[0].deadline
        work = unless_gone(request.receive, self._explain(model, prepared))
        explanations = await in_time(work, deadline + GRACE, deadline - begun)
        encoding = choose_encoding(request.headers.get("Accept-Encoding"))

        def pack() -> Response:
            start = time.perf_counter()
            content, length = prepared.response(model, explanations, begun)
            headers = {"Vary": "Accept-Encoding"} | ({} if length is None else {HEADER_LENGTH: str(length)})
            if encoding is not None and len(content) >= WORTH_IT:
                content = compress(content, encoding)
                headers["Content-Encoding"] = encoding
            self._metrics.stage(model.name, "encode", time.perf_counter() - start)
            kind = JSON if length is None else BINARY
            return TimedResponse(content, headers, kind, self._settings.timeout, self._leave)

        return await self._in_thread(pack)

    async def _stream(self, request: Request, model: ServedModel, begun: float) -> Response:
        prepared = await self._prepare(request, model, begun)
        if len(prepared.jobs) != 1:
            raise UsageError(f"a stream of events is about one picture, not {len(prepared.jobs)}: send one")
        self._metrics.stage(model.name, "decode", prepared.seconds)
        latest = Latest()
        watched = replace(prepared, jobs=[replace(prepared.jobs[0], progress_maps=latest.put)])
        working = asyncio.create_task(self._explain(model, watched))
        try:
            await unless_gone(request.receive, _first_of(working, latest))
            if working.done():
                working.result()  # raises its error
        except BaseException:
            working.cancel()
            raise
        return EventStream(self._events(model, prepared, working, latest, begun), self._settings.timeout, self._leave)

    async def _events(
        self,
        model: ServedModel,
        prepared: PreparedRequest,
        working: "asyncio.Task[Sequence[Explanation]]",
        latest: Latest,
        begun: float,
    ) -> AsyncGenerator[bytes]:
        """Yield the events: `maps` for preliminary ones, and one `answer` or `error` at the end."""
        sent: dict[str, Array] = {}

        async def event(explanation: Explanation) -> bytes:
            return await self._in_thread(partial(prepared.event, model, explanation, sent, begun))

        try:
            while not working.done():
                if (preliminary := latest.get()) is not None:
                    yield await event(preliminary)
                await _first_of(working, latest)
            (explanation,) = working.result()
            yield await event(explanation)
        except (FusionCamError, MemoryError) as error:
            refused = error_response(error)
            yield write_event("error", {**json.loads(bytes(refused.body)), "status": refused.status_code})
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _prepare(self, request: Request, model: ServedModel, begun: float) -> PreparedRequest:
        """Receive a request and prepare its pictures; then its body is released."""
        settings, headers = self._settings, request.headers
        _check_type(headers.get("Content-Type"))
        parts: list[bytes] = []
        try:
            await in_time(self._receive(request, parts), begun + settings.timeout, settings.timeout, 408)

            def prepare() -> PreparedRequest:
                body = decompress(b"".join(parts), headers.get("Content-Encoding"), settings.max_body)
                return prepare_request(model, settings, body, headers.get(HEADER_LENGTH), begun)

            prepared = await in_time(self._in_thread(prepare), begun + settings.timeout, settings.timeout)
        finally:
            self._held -= sum(map(len, parts))
        _check_numbers(prepared, model)
        return prepared

    async def _receive(self, request: Request, parts: list[bytes]) -> None:
        """Append the body to `parts`: at most `max_body` bytes, and `max_held` of all requests together.

        Raises:
            HTTPException: 413 where the body is longer.
            UsageError: The length of the body is no number.
            BusyError: Other requests hold as much already.
            ClientDisconnect: The client left.
        """
        limit, size = self._settings.max_body, _declared_length(request.headers.get("Content-Length", "0"))
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
            raise HTTPException(
                413, f"the body has more than {limit:,} bytes, the limit: send a smaller picture, or fewer"
            )

    async def _explain(self, model: ServedModel, prepared: PreparedRequest) -> Sequence[Explanation]:
        """Return the explanations of all pictures of a request; if one fails, the others are cancelled.

        Raises:
            FusionCamError: An explanation fails.
        """

        async def timed(pending: PendingJob) -> Explanation:
            explanation = await pending.wait()
            waited = time.monotonic() - start - sum(explanation.timing.values())
            self._metrics.stage(model.name, "queue", max(waited, 0.0))
            return explanation

        start = time.monotonic()
        tasks = [asyncio.create_task(timed(pending)) for pending in model.batcher.submit(prepared.jobs)]
        try:
            return await asyncio.gather(*tasks)
        except NotFiniteError as error:
            if prepared.preprocessed:  # the numbers are the client's, and no picture has them
                raise UsageError(str(error)) from error
            raise
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


async def _first_of(working: "asyncio.Task[Any]", latest: Latest) -> None:
    """Wait until the work is done, or there is something to show."""
    arrival = asyncio.create_task(latest.arrival())
    try:
        await asyncio.wait((working, arrival), return_when=asyncio.FIRST_COMPLETED)
    finally:
        arrival.cancel()


def _check_type(content_type: str | None) -> None:
    """Raise HTTPException (415) for a body of another type than `TYPES`; tritonclient does not send the type at all."""
    if content_type is not None and content_type.partition(";")[0].strip().lower() not in TYPES:
        raise HTTPException(
            415,
            f"the body's type is {quote(content_type)}; send Content-Type: {JSON}, or {BINARY} where binary tensors "
            "follow",
            {"Accept": ", ".join(TYPES)},
        )


def _check_numbers(prepared: PreparedRequest, model: ServedModel) -> None:
    """Raise UsageError where the answer would be too much text."""
    maps = sum(not output.binary and output.name not in NO_MAPS for output in prepared.outputs)
    numbers = maps * len(prepared.jobs) * math.prod(model.size)
    if numbers > MOST_NUMBERS:
        raise UsageError(
            f"the maps would be {numbers:,} numbers in JSON, the limit is {MOST_NUMBERS:,}: set the parameter "
            "binary_data_output, or ask for fewer methods or pictures"
        )


def _declared_length(header: str) -> int:
    """Return the Content-Length; raise UsageError where it is no number."""
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise UsageError(f"Content-Length must be a number of bytes, not {quote(header)}")
    return int(header)
