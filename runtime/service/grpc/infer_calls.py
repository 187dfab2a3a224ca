"""The calls for explanations: a message received, prepared, explained and answered, once or in steps."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from itertools import chain
from typing import Any

from starlette.exceptions import HTTPException
from tritonclient.grpc import service_pb2 as pb

from fusioncam.errors import BusyError, FusionCamError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.service.errors import RETRY_AFTER, error_answer
from fusioncam.runtime.service.grpc.calls import Call
from fusioncam.runtime.service.grpc.messages import FINAL, answer_message, parsed, read_message
from fusioncam.runtime.service.grpc.status import call_end
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest, is_preliminary, prepare_request
from fusioncam.runtime.service.protocol.tensors import Output
from fusioncam.runtime.service.request_runner import in_time
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.service import Service

PATIENCE = 5.0  # seconds in which a message must arrive where others wait for its place

Answer = Callable[[], tuple[Mapping[str, Any], Sequence[Output]]]


class InferCalls:
    """The calls ModelInfer and ModelStreamInfer.

    Args:
        service: The service.
    """

    def __init__(self, service: Service) -> None:
        self._service, self._settings = service, service.settings
        self._runner, self._streams = service.runner, 0
        self._ending, self._waiting = False, set[asyncio.Timeout]()
        # The size of a message is known when it is there.
        self._receiving = asyncio.Semaphore(max(1, service.settings.max_held // service.settings.max_body))

    def end(self) -> None:
        """End the streams that wait for a request: clients may leave them open for ever."""
        self._ending = True
        for end in self._waiting:
            end.reschedule(0)

    async def infer(self, call: Call) -> None:
        """Answer the request of a call."""
        begun, timeout = time.monotonic(), self._settings.timeout
        self._runner.enter()
        try:
            async with AsyncExitStack() as held:

                async def receive() -> bytes:
                    await held.enter_async_context(self._receiving)
                    return await self._message(call)

                message = await self._parsed(await in_time(receive(), begun + timeout, timeout, 408))
                model = self._model(call, message)
                with self._runner.timed(model, begun):
                    prepared = await self._prepare(call, model, message, begun)
                    del message  # many megabytes, perhaps
                    await held.aclose()
                    explanations = list(chain(*await self._runner.explain(model, prepared, begun)))
                    answer = await self._packed(model, partial(prepared.answer, model, explanations, begun))
            await call.write(answer)
        finally:
            self._runner.leave()

    async def stream(self, call: Call) -> None:
        """Answer the requests of a stream one after the other, each in steps; errors are answers, too."""
        if self._streams >= self._settings.concurrency:
            raise BusyError(f"{self._streams} streams are open; close some, or ask again later", RETRY_AFTER)
        self._streams += 1
        try:
            while (data := await self._next(call)) is not None:
                answering = self._answers(call, data)
                del data  # many megabytes, perhaps; an explanation takes long
                async with aclosing(answering) as answers:
                    async for answer in answers:
                        await call.write(answer)
        finally:
            self._streams -= 1

    async def _answers(self, call: Call, data: bytes) -> AsyncGenerator[Any]:
        """Yield the answers to one request of a stream."""
        begun, message = time.monotonic(), pb.ModelInferRequest()
        try:
            self._runner.enter()
            try:
                message = await self._parsed(data)
                del data
                model = self._model(call, message)
                with self._runner.timed(model, begun):
                    prepared = await self._prepare(call, model, message, begun)
                    message.ClearField("raw_input_contents")
                    message.ClearField("inputs")
                    async with aclosing(self._steps(model, prepared, begun)) as steps:
                        async for step in steps:
                            yield pb.ModelStreamInferResponse(infer_response=step)
            finally:
                self._runner.leave()
        except (FusionCamError, HTTPException, MemoryError) as error:
            yield _error(message, error)

    async def _steps(self, model: ServedModel, prepared: PreparedRequest, begun: float) -> AsyncGenerator[Any]:
        """Yield preliminary answers, where the request is about one picture, and the whole answer."""
        if len(prepared.jobs) > 1:
            every = list(chain(*await self._runner.explain(model, prepared, begun)))
            yield await self._packed(model, partial(prepared.answer, model, every, begun), final=True)
            return
        sent: dict[str, Array] = {}
        async with aclosing(self._runner.explain_in_steps(model, prepared)) as made:
            async for explanations in made:
                final = not is_preliminary(explanations)
                whole = partial(prepared.answer, model, explanations, begun)
                part = partial(prepared.step, model, explanations, sent, begun)
                yield await self._packed(model, whole if final else part, final)

    async def _message(self, call: Call) -> bytes:
        """Return the only message of a call.

        Raises:
            HTTPException: There is none.
            BusyError: It does not arrive, and keeps others waiting.
        """
        try:
            async with asyncio.timeout(None) as end:
                impatience = asyncio.create_task(self._lose_patience(end))
                data = await call.read()
        except TimeoutError:
            raise BusyError("the message is slow, and others wait to be received; send it again", RETRY_AFTER) from None
        finally:
            impatience.cancel()
        if data is None:  # gRPC has told the client
            limit = f"{self._settings.max_body:,} bytes, the limit"
            raise HTTPException(413, f"the message is larger than {limit}, or there is none: send a smaller picture")
        return data

    async def _lose_patience(self, end: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(PATIENCE)
            if self._receiving.locked():
                end.reschedule(0)
                return

    async def _next(self, call: Call) -> bytes | None:
        """Return the next message of a stream, or None where no other follows.

        Raises:
            BusyError: The service ends.
        """
        try:
            async with asyncio.timeout(0 if self._ending else None) as end:
                self._waiting.add(end)
                return await call.read()
        except TimeoutError:
            raise BusyError("the service is shutting down; open another stream", RETRY_AFTER) from None
        finally:
            self._waiting.discard(end)

    async def _parsed(self, data: bytes) -> Any:
        return await self._runner.in_thread(partial(parsed, pb.ModelInferRequest, data))

    def _model(self, call: Call, message: Any) -> ServedModel:
        call.model = message.model_name
        return self._service.repository.find(message.model_name, message.model_version)

    async def _prepare(self, call: Call, model: ServedModel, message: Any, begun: float) -> PreparedRequest:
        def prepare() -> PreparedRequest:
            start = time.perf_counter()
            request, tensors = read_message(message, self._settings, call.seconds_left)
            return prepare_request(model, self._settings, request, tensors, begun, start)

        timeout = self._settings.timeout
        return await in_time(self._runner.in_thread(prepare), begun + timeout, timeout)

    async def _packed(self, model: ServedModel, answer: Answer, final: bool | None = None) -> Any:
        def pack() -> Any:
            start = time.perf_counter()
            message = answer_message(*answer(), final)
            self._service.metrics.stage(model.name, "encode", time.perf_counter() - start)
            return message

        return await self._runner.in_thread(pack)


def _error(message: Any, error: Exception) -> Any:
    """Return the answer to a request of a stream that ended in an error; it says which request, and the status."""
    end = call_end(error_answer(error))
    answer = pb.ModelStreamInferResponse(error_message=end.message)
    refused = answer.infer_response
    refused.id, refused.model_name, refused.model_version = message.id, message.model_name, message.model_version
    refused.parameters[FINAL].bool_param = True
    refused.parameters["status"].string_param = end.code.name
    if end.retry_after is not None:
        refused.parameters["retry_after"].int64_param = end.retry_after
    return answer
