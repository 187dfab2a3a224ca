"""The way of a request for explanations over HTTP to its answer: received, prepared, explained, packed."""

import json
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fusioncam.errors import BusyError, FusionCamError, UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.errors import CLIENT_GONE, RETRY_AFTER, error_response
from fusioncam.runtime.service.http.event_stream import EventStream
from fusioncam.runtime.service.http.timed_response import TimedResponse
from fusioncam.runtime.service.http.waiting import unless_gone
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.compression import WORTH_IT, choose_encoding, compress, decompress
from fusioncam.runtime.service.protocol.openapi import BINARY, JSON
from fusioncam.runtime.service.protocol.outputs import NO_MAPS
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest, prepare_request, read_request
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH, write_event
from fusioncam.runtime.service.request_runner import RequestRunner, in_time
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

Answer = Callable[[Request, ServedModel, float], Awaitable[Response]]

# Types that a page from elsewhere cannot have a browser send without asking this service first, unlike text and forms.
TYPES = (BINARY, JSON)
MOST_NUMBERS = 1 << 22  # of maps as text, in an answer: some 80 MB


class InferHandler:
    """The handler of requests for explanations over HTTP.

    Args:
        settings: Limits.
        metrics: Counts.
        runner: Explains.
    """

    def __init__(self, settings: Settings, metrics: Metrics, runner: RequestRunner) -> None:
        self._settings, self._metrics, self._runner = settings, metrics, runner
        self._held = 0  # bytes of bodies

    async def answer(self, request: Request, model: ServedModel) -> Response:
        """Return the answer to a request for explanations, errors included."""
        return await self._counted(request, model, self._answer)

    async def stream(self, request: Request, model: ServedModel) -> Response:
        """Return the answer as events, preliminary maps first; errors that come before the first have a status."""
        return await self._counted(request, model, self._stream)

    async def _counted(self, request: Request, model: ServedModel, answer: Answer) -> Response:
        """Return an answer, which counts until it is sent, or that of its error."""
        begun = time.monotonic()
        try:
            self._runner.enter()
        except BusyError as error:
            return error_response(error)
        try:
            with self._runner.timed(model, begun):
                return await answer(request, model, begun)
        except BaseException as error:
            self._runner.leave()
            if isinstance(error, ClientDisconnect):
                return Response(status_code=CLIENT_GONE)
            if isinstance(error, FusionCamError | HTTPException | MemoryError):
                return error_response(error)
            raise

    async def _answer(self, request: Request, model: ServedModel, begun: float) -> Response:
        prepared = await self._prepare(request, model, begun)
        explanations = await unless_gone(request.receive, self._runner.explain(model, prepared, begun))
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
            return TimedResponse(content, headers, kind, self._settings.timeout, self._runner.leave)

        return await self._runner.in_thread(pack)

    async def _stream(self, request: Request, model: ServedModel, begun: float) -> Response:
        prepared = await self._prepare(request, model, begun)
        explanations = self._runner.explain_in_steps(model, prepared)
        first = await unless_gone(request.receive, anext(explanations))
        events = self._events(model, prepared, first, explanations, begun)
        return EventStream(events, self._settings.timeout, self._runner.leave)

    async def _events(
        self,
        model: ServedModel,
        prepared: PreparedRequest,
        first: Explanation,
        later: AsyncGenerator[Explanation],
        begun: float,
    ) -> AsyncGenerator[bytes]:
        """Yield the events: `maps` for preliminary explanations, and one `answer` or `error` at the end."""
        sent: dict[str, Array] = {}

        async def event(explanation: Explanation) -> bytes:
            return await self._runner.in_thread(partial(prepared.event, model, explanation, sent, begun))

        try:
            yield await event(first)
            async for explanation in later:
                yield await event(explanation)
        except (FusionCamError, MemoryError) as error:
            refused = error_response(error)
            yield write_event("error", {**json.loads(bytes(refused.body)), "status": refused.status_code})
        finally:
            await later.aclose()

    async def _prepare(self, request: Request, model: ServedModel, begun: float) -> PreparedRequest:
        """Receive a request and prepare its pictures; then its body is released."""
        settings, headers = self._settings, request.headers
        _check_type(headers.get("Content-Type"))
        parts: list[bytes] = []
        try:
            await in_time(self._receive(request, parts), begun + settings.timeout, settings.timeout, 408)

            def prepare() -> PreparedRequest:
                start = time.perf_counter()
                body = decompress(b"".join(parts), headers.get("Content-Encoding"), settings.max_body)
                request, tensors = read_request(body, headers.get(HEADER_LENGTH), model, settings)
                return prepare_request(model, settings, request, tensors, begun, start)

            prepared = await in_time(self._runner.in_thread(prepare), begun + settings.timeout, settings.timeout)
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
