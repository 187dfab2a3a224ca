"""Clients over gRPC: bytes in, bytes out, so that they take little of the cores that they share with the service."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2 as pb

from service.clients import LEAVES_AFTER, PATIENCE, Crowd
from service.sample_requests import MAP, Case, SampleRequest

INFER = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
]  # a connection for each client
STATUSES = {
    "OK": 200, "INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 413, "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}  # fmt: skip


def infer_message(model: str, inputs: Mapping[str, Any], case: Case, **parameters: Any) -> bytes:
    """Return a request for an explanation, as the message of a call."""
    ((name, value),) = inputs.items()
    message = pb.ModelInferRequest(model_name=model)
    if isinstance(value, bytes):
        message.inputs.add(name=name, datatype="BYTES", shape=[1])
        message.raw_input_contents.append(len(value).to_bytes(4, "little") + value)
    else:
        message.inputs.add(name=name, datatype="FP32", shape=[1, *value.shape])
        message.raw_input_contents.append(value.tobytes())
    told = {"class_index": case.class_index, "method": ",".join(case.methods), "budget": str(case.budget), **parameters}
    for key, chosen in told.items():
        setattr(message.parameters[key], "string_param" if isinstance(chosen, str) else "int64_param", chosen)
    for output in (*case.methods, "class_index"):
        message.outputs.add(name=output)
    data: bytes = message.SerializeToString()
    return data


class GrpcCrowd(Crowd):
    """All clients of the service, each with a channel of its own."""

    async def _open(self) -> Any:
        channel = grpc.aio.insecure_channel(f"{self.host}:{self.port}", options=OPTIONS)
        return channel, channel.unary_unary(INFER)

    async def _close(self, connection: Any) -> None:
        await connection[0].close()

    async def _ask(self, sample: SampleRequest, channel: Any, infer: Any) -> tuple[bool, float]:
        """Make one call; return whether the channel stays open, and the seconds to wait then."""
        sent = time.monotonic()
        call = infer(sample.raw, timeout=PATIENCE)
        if sample.leaves:
            await asyncio.sleep(LEAVES_AFTER)
            call.cancel()
            self.note(sample, "left", sent)
            return True, 0.0
        try:
            status, data, trailing = 200, await call, {}
        except grpc.aio.AioRpcError as error:
            name, trailing = error.code().name, dict(error.trailing_metadata() or ())
            status, data = STATUSES.get(name, 500), f"{name}: {error.details()}".encode()
        if status == 503 and "retry-after" not in trailing:  # the connection ended
            self.note(sample, "lost", sent, data.decode())
            return True, 0.1
        if status == 503:
            wait = float(trailing["retry-after"])
            self.note(sample, "busy", sent, wait)
            return True, wait
        self.judge(sample, sent, status, data, lambda: _difference(sample, data))
        return True, 0.0


def _difference(sample: SampleRequest, data: bytes) -> float:
    """Return the largest difference of an answer's map from the right one; infinity without a map of the class."""
    assert sample.wanted is not None
    wanted, c = sample.wanted
    answer = pb.ModelInferResponse.FromString(data)
    arrays = dict(zip([o.name for o in answer.outputs], answer.raw_output_contents, strict=True))
    found = np.frombuffer(arrays[MAP], np.float32)
    if found.size != wanted.size or int(np.frombuffer(arrays["class_index"], np.int64)[0]) != c:
        return float("inf")
    return float(np.abs(found - wanted.ravel()).max())
