"""The way of a request for explanations over HTTP to its answer: received, prepared, explained, packed."""

import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from fusioncam.errors import BusyError, FusionCamError, UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.errors import RETRY_AFTER, error_response
from fusioncam.runtime.service.http.answer_forms import (
    TENSORS,
    Answered,
    AnswerForm,
    TensorForm,
    choose_form,
    names_method,
    photo_file,
)
from fusioncam.runtime.service.http.bodies import Body, check_type, read_body
from fusioncam.runtime.service.http.event_stream import EventStream
from fusioncam.runtime.service.http.timed_response import TimedResponse
from fusioncam.runtime.service.http.waiting import unless_gone
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.protocol.compression import WORTH_IT, choose_encoding, compress, decompress
from fusioncam.runtime.service.protocol.openapi import BINARY, JSON
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest, prepare_request
from fusioncam.runtime.service.protocol.query import Drawing, merged, parsed_texts
from fusioncam.runtime.service.protocol.schemas import InferRequest, RequestedOutput, read_json
from fusioncam.runtime.service.protocol.tensors import write_event
from fusioncam.runtime.service.request_runner import RequestRunner, in_time
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

Answer = Callable[[float], Awaitable[Response]]
OF_MAPS = ("method", "methods", "verify")  # parameters that ask for maps, and would cost them


class Dialect(NamedTuple):
    """A protocol over HTTP, where it differs from others.

    Attributes:
        parse: Reads JSON.
        forms: The forms of answers that are no pictures, by their types.
        outputs: Names of the outputs of every request, which are no maps; by default the request says.
    """

    parse: Callable[[bytes], InferRequest] = read_json
    forms: Mapping[str, AnswerForm] = TENSORS
    outputs: tuple[str, ...] = ()


V2 = Dialect()


class _Asked(NamedTuple):
    """A request that is ready to be explained.

    Attributes:
        prepared: Its pictures and outputs.
        form: The form of its answer.
        photo: The file of its photo, where the answer shows it.
    """

    prepared: PreparedRequest
    form: AnswerForm
    photo: bytes | None


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

    async def answer(self, request: Request, model: ServedModel, dialect: Dialect = V2) -> Response:
        """Return the answer to a request for explanations, errors included."""
        return await self._counted(model, partial(self._answer, request, model, dialect))

    async def stream(self, request: Request, model: ServedModel) -> Response:
        """Return the answer as events, preliminary maps first; errors that come before the first have a status."""
        return await self._counted(model, partial(self._stream, request, model))

    async def _counted(self, model: ServedModel, answer: Answer) -> Response:
        """Return an answer, which counts until it is sent, or that of its error."""
        begun = time.monotonic()
        try:
            self._runner.enter()
        except BusyError as error:
            return error_response(error)
        try:
            with self._runner.timed(model, begun):
                return await answer(begun)
        except BaseException as error:
            self._runner.leave()
            if isinstance(error, FusionCamError | HTTPException | MemoryError):
                return error_response(error)
            raise

    async def _answer(self, request: Request, model: ServedModel, dialect: Dialect, begun: float) -> Response:
        asked = await self._prepare(request, model, begun, dialect)
        try:
            explanations = await unless_gone(request.receive, self._runner.explain(model, asked.prepared, begun))
            answered = Answered(model, asked.prepared, explanations, begun, asked.photo, self._settings.max_pixels)
            encoding = choose_encoding(request.headers.get("Accept-Encoding"))
            packing = self._runner.in_thread(lambda: self._pack(asked.form, answered, encoding))
            return await unless_gone(request.receive, self._runner.in_its_time(packing, asked.prepared, begun))
        finally:
            self._held -= len(asked.photo or b"")

    def _pack(self, form: AnswerForm, answered: Answered, encoding: str | None) -> Response:
        """Return the response; to be called in a thread."""
        start = time.perf_counter()
        content, kind, headers = form.pack(answered)
        headers["Vary"] = "Accept, Accept-Encoding"
        if encoding is not None and len(content) >= WORTH_IT and kind in (JSON, BINARY):
            content = compress(content, encoding)
            headers["Content-Encoding"] = encoding
        self._metrics.stage(answered.model.name, "encode", time.perf_counter() - start)
        return TimedResponse(content, headers, kind, self._settings.timeout, self._runner.leave)

    async def _stream(self, request: Request, model: ServedModel, begun: float) -> Response:
        prepared = (await self._prepare(request, model, begun, None)).prepared
        steps = self._runner.explain_in_steps(model, prepared)
        first = await unless_gone(request.receive, anext(steps))
        events = self._events(model, prepared, first, steps, begun)
        return EventStream(events, self._settings.timeout, self._runner.leave)

    async def _events(
        self,
        model: ServedModel,
        prepared: PreparedRequest,
        first: Sequence[Explanation],
        later: AsyncGenerator[Sequence[Explanation]],
        begun: float,
    ) -> AsyncGenerator[bytes]:
        """Yield the events: `maps` for preliminary explanations, and one `answer` or `error` at the end."""
        sent: dict[str, Array] = {}

        async def event(explanations: Sequence[Explanation]) -> bytes:
            return await self._runner.in_thread(partial(prepared.event, model, explanations, sent, begun))

        try:
            yield await event(first)
            async for explanations in later:
                yield await event(explanations)
        except (FusionCamError, MemoryError) as error:
            refused = error_response(error)
            yield write_event("error", {**json.loads(bytes(refused.body)), "status": refused.status_code})
        finally:
            await later.aclose()

    async def _prepare(self, request: Request, model: ServedModel, begun: float, dialect: Dialect | None) -> _Asked:
        """Receive a request and prepare its pictures; then its body is released, but for a photo to draw on.

        Without a dialect, the answer is a stream of events.
        """
        settings, headers = self._settings, request.headers
        check_type(headers)
        query = parsed_texts(request.query_params.multi_items())
        parts: list[bytes] = []
        try:
            await in_time(self._receive(request, parts), begun + settings.timeout, settings.timeout, 408)

            def prepare() -> _Asked:
                start = time.perf_counter()
                body = decompress(b"".join(parts), headers.get("Content-Encoding"), settings.max_body)
                content = read_body(body, headers, model, settings, (dialect or V2).parse)
                asked = _request(content, query, (dialect or V2).outputs)
                form = _form(request.headers, Drawing.taken_from(asked.parameters), dialect)
                asked.parameters = form.defaults(model, names_method(asked, content.tensors)) | asked.parameters
                several = form.pictures_of_several(model)
                prepared = prepare_request(model, settings, asked, content.tensors, begun, start, several)
                form.check(prepared)
                return _Asked(prepared, form, photo_file(content.tensors) if form.shows_photo else None)

            asked = await in_time(self._runner.in_thread(prepare), begun + settings.timeout, settings.timeout)
            self._held += len(asked.photo or b"")
        finally:
            self._held -= sum(map(len, parts))
        return asked

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


def _request(content: Body, query: Mapping[str, Any], outputs: Sequence[str]) -> InferRequest:
    """Return the request of a body, with the parameters of its address, and the outputs of its dialect."""
    request = content.request
    request.parameters = merged(query, content.fields, request.parameters)
    if content.photo_name:
        request.parameters.setdefault("name", content.photo_name)
    if outputs:
        request.outputs = [RequestedOutput(name=name) for name in outputs]
        for name in OF_MAPS:
            request.parameters.pop(name, None)
    return request


def _form(headers: Headers, drawing: Drawing, dialect: Dialect | None) -> AnswerForm:
    """Return the form of the answer; see `choose_form`."""
    if dialect is not None:
        return choose_form(headers.getlist("Accept"), drawing, dialect.forms)
    if drawing.is_given:
        raise UsageError("a stream of events holds maps, no picture: ask infer for one")
    return TensorForm()


def _declared_length(header: str) -> int:
    """Return the Content-Length; raise UsageError where it is no number."""
    if not (header.isascii() and header.isdigit() and len(header) < 20):
        raise UsageError(f"Content-Length must be a number of bytes, not {quote(header)}")
    return int(header)
