"""Messages of the protocol become requests, and answers become messages."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2 as pb

from fusioncam.errors import UsageError
from fusioncam.runtime.service.protocol.prepared_request import INPUTS
from fusioncam.runtime.service.protocol.schemas import InferRequest, InputTensor, checked_request
from fusioncam.runtime.service.protocol.tensors import (
    DTYPES,
    Output,
    Tensor,
    Values,
    check_inputs,
    check_parameters,
    from_bytes,
    raw_tensor,
)
from fusioncam.runtime.service.settings import Settings

FINAL = "triton_final_response"  # parameter of an answer in a stream
CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}
_PARAMETERS: Mapping[type, str] = {
    bool: "bool_param",
    int: "int64_param",
    float: "double_param",
    str: "string_param",
}


def parsed(kind: Any, data: bytes) -> Any:
    """Return a message of some kind from its bytes.

    Raises:
        UsageError: The bytes are no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError:
        raise UsageError(f"the message is no {kind.DESCRIPTOR.name} of protocol buffers; send one") from None


def read_message(message: Any, settings: Settings, seconds: float | None) -> tuple[InferRequest, dict[str, Tensor]]:
    """Return the request of a ModelInferRequest, and its tensors by name.

    Args:
        message: The message.
        settings: Limits.
        seconds: Time that the client has left for the call, if it said so.

    Raises:
        UsageError: The message is no request.
    """
    parameters = _values(message.parameters)
    if seconds is not None:
        asked = parameters.get("timeout") or 0
        left = max(int(seconds * 1e6), 1)
        if isinstance(asked, int):
            parameters["timeout"] = min(asked, left) if asked else left
    request = checked_request({
        "id": message.id,
        "parameters": parameters,
        "inputs": [
            {"name": t.name, "shape": list(t.shape), "datatype": t.datatype, "parameters": _values(t.parameters)}
            for t in message.inputs
        ],
        "outputs": [{"name": t.name, "parameters": _values(t.parameters)} for t in message.outputs],
    })  # fmt: skip
    check_inputs(request, INPUTS, settings.most_listed)
    raw = message.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise UsageError(
            f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs: give one for each, or contents for all"
        )
    if raw and any(sent.HasField("contents") for sent in message.inputs):
        raise UsageError("inputs have their values twice, as contents and as raw_input_contents: give them once")
    tensors = {}
    for n, (tensor, sent) in enumerate(zip(request.inputs, message.inputs, strict=True)):
        check_parameters(f"input {tensor.name!r}", tensor.parameters, set())
        values = from_bytes(tensor, memoryview(raw[n])) if raw else _from_contents(tensor, sent.contents)
        tensors[tensor.name] = Tensor(tuple(tensor.shape), values, from_json=False)
    return request, tensors


def _values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain values."""
    chosen = {name: parameter.WhichOneof("parameter_choice") for name, parameter in parameters.items()}
    return {name: getattr(parameters[name], choice) for name, choice in chosen.items() if choice is not None}


def _from_contents(tensor: InputTensor, contents: Any) -> Values:
    field = CONTENTS[tensor.datatype]
    if other := [f.name for f, _ in contents.ListFields() if f.name != field]:
        raise UsageError(f"input {tensor.name!r} is {tensor.datatype}: its values go into {field}, not {other[0]}")
    values, count = getattr(contents, field), int(np.prod(tensor.shape, dtype=object))
    if len(values) != count:
        raise UsageError(f"input {tensor.name!r} of shape {tuple(tensor.shape)} has {len(values)} {field}, not {count}")
    if tensor.datatype == "BYTES":
        return list(values)
    return np.fromiter(values, DTYPES[tensor.datatype].newbyteorder("="), count).reshape(tensor.shape)


def answer_message(head: Mapping[str, Any], outputs: Sequence[Output], final: bool | None = None) -> Any:
    """Return a ModelInferResponse.

    Args:
        head: The answer without its outputs.
        outputs: The tensors, in order; all of them are raw.
        final: In a stream, whether no other answer to the same request follows.
    """
    message = pb.ModelInferResponse(
        model_name=head["model_name"], model_version=head["model_version"], id=head.get("id", "")
    )
    for name, value in {**head["parameters"], **({} if final is None else {FINAL: final})}.items():
        setattr(message.parameters[name], _PARAMETERS[type(value)], value)
    for output in outputs:
        datatype, shape, data = raw_tensor(output.values)
        message.outputs.add(name=output.name, datatype=datatype, shape=shape)
        message.raw_output_contents.append(data)
    return message
