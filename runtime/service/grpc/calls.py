"""The frame of every call: its id, access, log and metrics, and an end for every error."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import grpc
from grpc import StatusCode
from starlette.exceptions import HTTPException

from fusioncam.errors import DeadlineError, FusionCamError
from fusioncam.runtime.service.errors import error_answer
from fusioncam.runtime.service.grpc.status import CallEnd, call_end
from fusioncam.runtime.service.http.access import has_token
from fusioncam.runtime.service.monitoring.logs import ACCESS, ERRORS, REQUEST_ID, request_id
from fusioncam.runtime.service.monitoring.metrics import Metrics

ID = "x-request-id"
FREE = ("/ServerLive", "/ServerReady", "/Check")  # what probes call: without the token, in the log for debugging only
NO_TOKEN = "give the service's token in the metadata, authorization: Bearer TOKEN"


class Call:
    """One call, as the service's methods see it.

    Args:
        context: gRPC's view of the call.
        seconds: Time to send a message: a client that does not read for so long is given up.

    Attributes:
        model: Name of the model that it is about, or empty.
    """

    def __init__(self, context: Any, seconds: float) -> None:
        self._context, self._seconds, self.model = context, seconds, ""

    @property
    def seconds_left(self) -> float | None:
        """Return the time that the client allows the call to take yet, or None."""
        left: float | None = self._context.time_remaining()
        return left

    async def read(self) -> bytes | None:
        """Return the next message of the client, or None where no other follows."""
        data = await self._context.read()
        return None if data is grpc.aio.EOF else data

    async def write(self, message: Any) -> None:
        """Send a message; wait while the client does not read."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._context.write(message.SerializeToString())
        except TimeoutError:
            raise DeadlineError(f"the answer was not read within {self._seconds:g} seconds; read faster") from None


Method = Callable[[Call], Awaitable[None]]


class CallFrame:
    """The frame of all methods of a service.

    Args:
        metrics: Counts.
        models: Names of the models.
        token: The token that calls must carry, except those of probes.
        seconds: Time to send a message.
    """

    def __init__(self, metrics: Metrics, models: Collection[str], token: str | None, seconds: float) -> None:
        self._metrics, self._models, self._seconds = metrics, frozenset(models), seconds
        self._token = None if token is None else token.encode()

    def handlers(self, service: str, methods: dict[str, Method]) -> Any:
        """Return gRPC's handlers of a service, by the names of its methods.

        Every method gets a stream of messages and gives one: a single message is the same on the wire. So a call is
        counted and refused before its message is received, and a message that nobody reads is given up.
        """
        handlers = {name: self._handler(f"/{service}/{name}", method) for name, method in methods.items()}
        return grpc.method_handlers_generic_handler(service, handlers)

    def _handler(self, path: str, method: Method) -> Any:
        async def handle(_: Any, context: Any) -> None:
            metadata = dict(context.invocation_metadata() or ())
            begun, call, end = time.perf_counter(), Call(context, self._seconds), CallEnd(StatusCode.CANCELLED)
            known_id = request_id(metadata.get(ID))
            mark = REQUEST_ID.set(known_id)
            self._metrics.begun()
            try:
                end = await self._answer(path, metadata, method, call, context)
            finally:
                self._record(path, call, end, time.perf_counter() - begun, context.peer())
                REQUEST_ID.reset(mark)
            trailing = (*end.metadata, (ID, known_id))
            if end.code is StatusCode.OK:
                context.set_trailing_metadata(trailing)
            elif not context.done():
                await context.abort(end.code, end.message, trailing)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _answer(self, path: str, metadata: dict[str, Any], method: Method, call: Call, context: Any) -> CallEnd:
        """Run a method and return how the call ends."""
        if not path.endswith(FREE) and not self._is_allowed(metadata):
            return CallEnd(StatusCode.UNAUTHENTICATED, NO_TOKEN)
        try:
            await method(call)
        except (FusionCamError, HTTPException, MemoryError) as error:
            return call_end(error_answer(error))
        except Exception:
            if context.done():  # the client left while a message was sent
                return CallEnd(StatusCode.CANCELLED)
            ERRORS.exception("a call failed unexpectedly; this is a bug, please report it")
            message = "something went wrong inside the service; its log has more under request id"
            return CallEnd(StatusCode.INTERNAL, f"{message} {REQUEST_ID.get()}")
        return CallEnd(StatusCode.OK)

    def _is_allowed(self, metadata: dict[str, Any]) -> bool:
        return self._token is None or has_token(str(metadata.get("authorization", "")), self._token)

    def _record(self, path: str, call: Call, end: CallEnd, seconds: float, client: str) -> None:
        """Count a call and log it."""
        model = call.model if call.model in self._models else ""
        self._metrics.answered(path, model, end.code.name, seconds)
        line = {"method": "gRPC", "path": path, "route": path, "model": model, "status": end.code.name}
        line |= {"seconds": round(seconds, 6), "client": client}
        if end.message:
            line["error"] = end.message
        ACCESS.log(logging.DEBUG if path.endswith(FREE) else logging.INFO, "answered", extra=line)
