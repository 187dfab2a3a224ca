"""Tensors in the bodies of requests and answers: in JSON, or as bytes behind it (the binary tensor extension)."""

import base64
import math
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from pydantic_core import to_json

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.service.protocol.schemas import InferRequest, InputTensor, read_json

HEADER_LENGTH = "Inference-Header-Content-Length"
DTYPES: Mapping[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
NUMBERS: Mapping[str, set[type]] = {"FP32": {int, float}, "INT64": {int}}  # types in JSON by datatype
SPARE_COMMAS = 1 << 16  # in the JSON of a request, beside those between the values of its pictures
DEEPEST = 8  # lists in lists

Values: TypeAlias = Array | list[bytes]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of a request.

    Attributes:
        shape: The shape that the client gives.
        values: An array of that shape, or for BYTES a list of the elements, row by row.
        from_json: Whether the tensor came in the JSON, where BYTES are texts.
    """

    shape: tuple[int, ...]
    values: Values
    from_json: bool


def split_body(
    body: bytes, header_length: str | None, most_values: int, parse: Callable[[bytes], InferRequest] = read_json
) -> tuple[InferRequest, memoryview]:
    """Return the JSON of a body, and the bytes behind it.

    Args:
        body: A whole request, decompressed.
        header_length: The header `HEADER_LENGTH`: bytes of JSON; without it, all of the body is JSON.
        most_values: The most numbers that a request can need; bounds the memory to read a body of JSON.
        parse: Reads the JSON.

    Raises:
        UsageError: The body is no request.
    """
    if header_length is not None and not re.fullmatch("[0-9]{1,12}", header_length):
        raise UsageError(f"{HEADER_LENGTH} must be a number of bytes, not {quote(header_length)}")
    length = len(body) if header_length is None else int(header_length)
    if length > len(body):
        raise UsageError(f"{HEADER_LENGTH} is {length}, but the body has {len(body)} bytes")
    text = body[:length]
    if text.count(b",") > most_values + SPARE_COMMAS:
        raise UsageError(f"the request's JSON holds more than {most_values:,} values, more than its pictures can have")
    return parse(text), memoryview(body)[length:]


def check_inputs(request: InferRequest, datatypes: Mapping[str, str], most_listed: int) -> None:
    """Check the inputs of a request, without their values.

    Args:
        request: The request.
        datatypes: The datatypes of all inputs, by name.
        most_listed: The most values of any datatype but FP32; each becomes an object, and a compressed body hides
            millions of small ones.

    Raises:
        UsageError: An input is unknown, given twice, of another datatype, or has too many values.
    """
    names = set[str]()
    for tensor in request.inputs:
        name = tensor.name
        if name not in datatypes:
            raise UsageError(f"there is no input {quote(name)}; the inputs are {', '.join(datatypes)}")
        if name in names:
            raise UsageError(f"input {name!r} is given twice: give it once")
        names.add(name)
        if tensor.datatype != datatypes[name]:
            raise UsageError(f"input {name!r} is of datatype {datatypes[name]}, not {tensor.datatype}")
        if tensor.datatype != "FP32" and math.prod(tensor.shape) > most_listed:
            raise UsageError(f"input {name!r} of shape {tuple(tensor.shape)} has more than {most_listed:,} values")


def read_tensors(request: InferRequest, data: memoryview) -> dict[str, Tensor]:
    """Return the tensors of a request whose inputs were checked, by name.

    Args:
        request: The JSON of the request.
        data: The bytes behind the JSON.

    Raises:
        UsageError: The values of an input do not fit its shape.
    """
    tensors: dict[str, Tensor] = {}
    at = 0
    for tensor in request.inputs:
        size = _binary_size(tensor, len(data) - at)
        if size is None:
            values = _from_json(tensor)
        else:
            values = from_bytes(tensor, data[at : at + size])
            at += size
        tensors[tensor.name] = Tensor(tuple(tensor.shape), values, from_json=size is None)
    if at != len(data):
        raise UsageError(
            f"{len(data) - at} bytes of the body belong to no input: the binary_data_size of all must add up, "
            f"and {HEADER_LENGTH} be the bytes of JSON"
        )
    return tensors


def _binary_size(tensor: InputTensor, left: int) -> int | None:
    """Return the size of a tensor behind the JSON, where so many bytes are left; None if its values are in the JSON."""
    check_parameters(f"input {tensor.name!r}", tensor.parameters, {"binary_data_size"})
    size = tensor.parameters.get("binary_data_size")
    if (size is None) == (tensor.data is None):
        raise UsageError(
            f"input {tensor.name!r} needs its values once: as data, or behind the JSON with binary_data_size"
        )
    if size is None:
        return None
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise UsageError(f"binary_data_size of input {tensor.name!r} must be a number of bytes, not {quote(size)}")
    if size > left:
        raise UsageError(f"input {tensor.name!r} should have {quote(size)} bytes behind the JSON, but {left} are left")
    return size


def check_parameters(tensor: str, parameters: Mapping[str, Any], known: set[str]) -> None:
    """Raise UsageError for parameters of a tensor that are unknown, or ask for shared memory."""
    if any(key.startswith("shared_memory") for key in parameters):
        raise UsageError(f"{tensor} is in shared memory, which this service does not use: tensors go in the body")
    for key in sorted(set(parameters) - known):
        raise UsageError(f"{tensor} has an unknown parameter {quote(key)}")


def from_bytes(tensor: InputTensor, data: memoryview) -> Values:
    """Return the values of a tensor, from their bytes; raise UsageError where they do not fit its shape."""
    count = math.prod(tensor.shape)
    if tensor.datatype == "BYTES":
        elements = list(islice(_elements(tensor.name, data), count + 1))
        if len(elements) != count:
            raise _wrong_count(tensor, len(elements))
        return elements
    dtype = DTYPES[tensor.datatype]
    if len(data) != count * dtype.itemsize:
        raise UsageError(
            f"input {tensor.name!r} of shape {tuple(tensor.shape)} has {quote(count * dtype.itemsize)} bytes, "
            f"not {len(data)}"
        )
    # A copy, which is aligned: behind the JSON, values may begin at any byte.
    return np.frombuffer(data, dtype).reshape(tensor.shape).astype(dtype.newbyteorder("="))


def _elements(name: str, data: memoryview) -> Iterator[bytes]:
    """Yield the elements of a BYTES tensor; each follows its length in four bytes, little-endian."""
    at = 0
    while at < len(data):
        end = at + 4
        if end <= len(data):
            end += int.from_bytes(data[at:end], "little")
        if end > len(data) or end < at + 4:
            raise UsageError(f"input {name!r} is cut short: each of its elements is led by its length in 4 bytes")
        yield bytes(data[at + 4 : end])
        at = end


def _from_json(tensor: InputTensor) -> Values:
    shape, values_in_json, what = tuple(tensor.shape), tensor.data, f"data of input {tensor.name!r}"
    types = _types(values_in_json, what) if isinstance(values_in_json, list) else {type(values_in_json)}
    if tensor.datatype == "BYTES":
        if types != {str}:
            raise UsageError(f"{what} must be a list of texts: BYTES in JSON are strings, photos in base64")
        texts = list(_flat(values_in_json))
        if len(texts) != math.prod(shape):
            raise _wrong_count(tensor, len(texts))
        return [text.encode() for text in texts]
    dtype = DTYPES[tensor.datatype].newbyteorder("=")
    try:
        if not types or not types <= NUMBERS[tensor.datatype]:
            raise ValueError
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which is refused later
            values = np.asarray(values_in_json, dtype)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{what} must be a list of {tensor.datatype} numbers, or lists in lists of one length"
        ) from None
    if values.shape != shape:
        if values.ndim != 1:
            raise UsageError(f"{what} is {values.shape}, its shape {shape}")
        if values.size != math.prod(shape):
            raise _wrong_count(tensor, values.size)
    return values.reshape(shape)


def _types(values: list[Any], what: str, depth: int = 1) -> set[type]:
    """Return the types of the values in lists of lists."""
    types = set(map(type, values))
    if list in types:
        if depth == DEEPEST:
            raise UsageError(f"{what} is nested deeper than {DEEPEST} lists")
        types = (types - {list}).union(*(_types(e, what, depth + 1) for e in values if isinstance(e, list)))
    return types


def _flat(values: Any) -> Iterator[Any]:
    if not isinstance(values, list):
        yield values
    else:
        for entry in values:
            yield from _flat(entry)


def _wrong_count(tensor: InputTensor, count: int) -> Exception:
    size = math.prod(tensor.shape)
    number = count if count < size else "more"
    return UsageError(f"input {tensor.name!r} of shape {tuple(tensor.shape)} has {quote(size)} values, not {number}")


@dataclass(frozen=True, eq=False)
class Output:
    """A tensor of an answer.

    Attributes:
        name: The name of the output.
        values: float32 or int64; or BYTES as lists of texts, one list per row.
        binary: Whether the tensor goes behind the JSON.
    """

    name: str
    values: Array | list[list[str]]
    binary: bool


def write_answer(head: dict[str, Any], outputs: Sequence[Output]) -> tuple[bytes, int | None]:
    """Return the body of an answer, and the number of its bytes that are JSON where more follows.

    Args:
        head: The JSON without the outputs.
        outputs: The tensors, in order.
    """
    described, behind = [], []
    for output in outputs:
        datatype, shape, data = raw_tensor(output.values)
        entry: dict[str, Any] = {"name": output.name, "datatype": datatype, "shape": shape}
        if output.binary:
            entry["parameters"] = {"binary_data_size": len(data)}
            behind.append(data)
        elif isinstance(output.values, list):
            entry["data"] = [text for row in output.values for text in row]
        else:
            entry["data"] = output.values.reshape(-1).tolist()
        described.append(entry)
    text = to_json({**head, "outputs": described}, inf_nan_mode="null")
    return b"".join((text, *behind)), len(text) if behind else None


def write_event(kind: str, head: dict[str, Any], outputs: Sequence[Output] = ()) -> bytes:
    """Return a server-sent event, whose data is one line of JSON; the bytes of its tensors are in base64.

    Args:
        kind: Of the event.
        head: The JSON without the outputs.
        outputs: The tensors, in order; there may be none.
    """
    described = []
    for output in outputs:
        datatype, shape, data = raw_tensor(output.values)
        texts = [text for row in output.values for text in row] if isinstance(output.values, list) else None
        described.append({
            "name": output.name, "datatype": datatype, "shape": shape,
            "data": base64.b64encode(data).decode() if texts is None else texts,
        })  # fmt: skip
    told = {**head, "outputs": described} if described else head
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), to_json(told, inf_nan_mode="null"))


def raw_tensor(values: Array | list[list[str]]) -> tuple[str, list[int], bytes]:
    """Return datatype, shape and bytes of a tensor."""
    if isinstance(values, list):
        texts = [text.encode() for row in values for text in row]
        joined = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        return "BYTES", [len(values), len(values[0]) if values else 1], joined
    datatype = next(name for name, dtype in DTYPES.items() if dtype == values.dtype.newbyteorder("<"))
    return datatype, list(values.shape), values.astype(DTYPES[datatype], copy=False).tobytes()
