"""The methods of the protocol, in a table: of the server, of models, and of the repository."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.json_format import ParseDict
from tritonclient.grpc import service_pb2 as pb

from fusioncam.errors import BusyError
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.errors import RETRY_AFTER, UnknownModelError
from fusioncam.runtime.service.grpc import health
from fusioncam.runtime.service.grpc.calls import Call, Method
from fusioncam.runtime.service.grpc.infer_calls import InferCalls
from fusioncam.runtime.service.grpc.messages import parsed
from fusioncam.runtime.service.http.loading import LOADING
from fusioncam.runtime.service.protocol import metadata
from fusioncam.runtime.service.repository.model_repository import Change
from fusioncam.runtime.service.service import Service

SERVICE = "inference.GRPCInferenceService"
Quick = Callable[[Service, Any], Awaitable[Any]]


class Methods:
    """The methods of gRPC's services; until the models are loaded, most are refused.

    Attributes:
        service: The service, once its models are loaded.
    """

    def __init__(self) -> None:
        self.service: Service | None = None
        self._infer: InferCalls | None = None

    def end(self) -> None:
        """End what would never end by itself."""
        if self._infer is not None:
            self._infer.end()

    def inference(self) -> dict[str, Method]:
        """Return the methods of the Open Inference Protocol, by name."""
        return {
            "ServerLive": self._answering(pb.ServerLiveRequest, self._live),
            "ServerReady": self._answering(pb.ServerReadyRequest, self._ready),
            "ModelInfer": lambda call: self._calls().infer(call),
            "ModelStreamInfer": lambda call: self._calls().stream(call),
            **{name: self._answering(kind, self._opened(quick)) for name, (kind, quick) in QUICK.items()},
        }

    def health(self) -> dict[str, Method]:
        """Return the methods of gRPC's own health service, by name."""
        return {"Check": self._answering(health.Request, self._check)}

    def _answering(self, kind: Any, answer: Callable[[Call, Any], Awaitable[Any]]) -> Method:
        """Return a method that answers one message of a kind by another."""

        async def method(call: Call) -> None:
            message = parsed(kind, await call.read() or b"")
            await call.write(await answer(call, message))

        return method

    def _opened(self, quick: Quick) -> Callable[[Call, Any], Awaitable[Any]]:
        async def answer(call: Call, message: Any) -> Any:
            call.model = next((getattr(message, f) for f in ("name", "model_name") if hasattr(message, f)), "")
            return await quick(self._loaded(), message)

        return answer

    def _loaded(self) -> Service:
        if self.service is None:
            raise BusyError(LOADING, RETRY_AFTER)
        return self.service

    def _calls(self) -> InferCalls:
        service = self._loaded()
        self._infer = self._infer or InferCalls(service)
        return self._infer

    async def _live(self, *_: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _ready(self, *_: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._is_ready())

    async def _check(self, _: Call, message: Any) -> Any:
        if message.service not in ("", SERVICE):
            raise UnknownModelError(f"there is no service {quote(message.service)}; there is {SERVICE}")
        return health.Response(status=health.SERVING if self._is_ready() else health.NOT_SERVING)

    def _is_ready(self) -> bool:
        return self.service is not None and all(model.batcher.ready for model in self.service.repository)


def _filled(kind: Any, members: Mapping[str, Any]) -> Any:
    """Return a message with these members; those that gRPC's messages lack are left out."""
    return ParseDict(members, kind(), ignore_unknown_fields=True)


async def _server(_: Service, __: Any) -> Any:
    return _filled(pb.ServerMetadataResponse, metadata.SERVER.model_dump())


async def _model_ready(service: Service, message: Any) -> Any:
    try:
        ready = service.repository.find(message.name, message.version).batcher.ready
    except UnknownModelError:
        ready = False
    return pb.ModelReadyResponse(ready=ready)


async def _model(service: Service, message: Any) -> Any:
    model = service.repository.find(message.name, message.version)
    info = metadata.metadata(model, service.settings, service.repository.versions(model.name))
    return _filled(pb.ModelMetadataResponse, info.model_dump())


async def _config(service: Service, message: Any) -> Any:
    config = metadata.config(service.repository.find(message.name, message.version), service.settings)
    more = {"fusioncam": {"string_value": json.dumps(config.pop("fusioncam"))}}
    return _filled(pb.ModelConfigResponse, {"config": {**config, "parameters": {**config["parameters"], **more}}})


async def _statistics(service: Service, message: Any) -> Any:
    repository = service.repository
    models = [repository.find(message.name, message.version)] if message.name else repository.newest()
    return _filled(pb.ModelStatisticsResponse, await asyncio.to_thread(metadata.statistics, models, service.metrics))


async def _index(service: Service, message: Any) -> Any:
    entries = service.repository.index(message.ready)
    return _filled(pb.RepositoryIndexResponse, {"models": [entry.model_dump() for entry in entries]})


async def _load(service: Service, message: Any) -> Any:
    await service.change_for_client(Change("load", message.model_name), message.parameters)
    return pb.RepositoryModelLoadResponse()


async def _unload(service: Service, message: Any) -> Any:
    await service.change_for_client(Change("unload", message.model_name), message.parameters)
    return pb.RepositoryModelUnloadResponse()


QUICK: Mapping[str, tuple[Any, Quick]] = {
    "ServerMetadata": (pb.ServerMetadataRequest, _server),
    "ModelReady": (pb.ModelReadyRequest, _model_ready),
    "ModelMetadata": (pb.ModelMetadataRequest, _model),
    "ModelConfig": (pb.ModelConfigRequest, _config),
    "ModelStatistics": (pb.ModelStatisticsRequest, _statistics),
    "RepositoryIndex": (pb.RepositoryIndexRequest, _index),
    "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, _load),
    "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, _unload),
}
"""Methods that are answered at once, with the kind of their message."""
