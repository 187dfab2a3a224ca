"""Inputs and outputs of a graph, read from its file, in the words of Triton."""

from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from fusioncam.errors import BundleError, first_line
from fusioncam.export.triton.prototext import Message, Word

TYPES: dict[int, str] = {
    TensorProto.FLOAT: "TYPE_FP32",
    TensorProto.FLOAT16: "TYPE_FP16",
    TensorProto.INT64: "TYPE_INT64",
    TensorProto.BOOL: "TYPE_BOOL",
}
TRITON_TYPES = {"float32": "TYPE_FP32", "int64": "TYPE_INT64", "bool": "TYPE_BOOL"}  # by NumPy's names
LARGEST = (1 << 31) - 1  # bytes of a protobuf message


@dataclass(frozen=True)
class Tensor:
    """An input or output of a Triton model.

    Attributes:
        name: The name.
        type: The name of the type in Triton's DataType.
        dims: The shape, -1 where a size is free.
        optional: Whether a request may leave the tensor out.
        labels: Whether labels.txt names the numbers.
    """

    name: str
    type: str
    dims: tuple[int, ...]
    optional: bool = False
    labels: bool = False

    @property
    def within_batch(self) -> "Tensor":
        """Return the tensor of one picture of a batch, as models with a max_batch_size declare it."""
        return replace(self, dims=self.dims[1:])

    @property
    def message(self) -> Message:
        """Return the ModelInput or ModelOutput of Triton's configuration."""
        said: Message = [("name", self.name), ("data_type", Word(self.type)), ("dims", self.dims)]
        said += [("optional", True)] * self.optional
        return said + [("label_filename", "labels.txt")] * self.labels


@dataclass(frozen=True)
class Interface:
    """The inputs and the outputs of a model."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def within_batch(self) -> "Interface":
        """Return the inputs and outputs of one picture of a batch."""
        return Interface(*(tuple(t.within_batch for t in side) for side in (self.inputs, self.outputs)))


def interface(graph: Path, labelled: bool = False) -> Interface:
    """Return the inputs and the outputs of an ONNX file.

    Args:
        graph: The file.
        labelled: Whether the output `logits` has labels.

    Raises:
        BundleError: The file cannot be read, or has a tensor of a type that no graph of a bundle has.
    """
    graph_proto = _load(graph, weights=False).graph
    sides = (graph_proto.input, graph_proto.output)
    inputs, outputs = (tuple(_tensor(graph, value) for value in side) for side in sides)
    return Interface(inputs, tuple(replace(t, labels=labelled and t.name == "logits") for t in outputs))


def _tensor(graph: Path, value: onnx.ValueInfoProto) -> Tensor:
    of = value.type.tensor_type
    if of.elem_type not in TYPES:
        raise BundleError(f"{graph} is no graph of a bundle: {value.name!r} has another type; export it again")
    dims = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in of.shape.dim)
    return Tensor(value.name, TYPES[of.elem_type], dims)


def write_whole(graph: Path, target: Path) -> None:
    """Copy an ONNX file with its weights inside.

    Weights that are too large for a protobuf message go into `weights.bin` beside the copy. The backend of Triton finds
    them there: it opens models by their path.

    Raises:
        BundleError: The file cannot be read.
        OSError: The copy cannot be written.
    """
    model = _load(graph, weights=True)
    beside = model.ByteSize() > LARGEST
    onnx.save_model(model, target, save_as_external_data=beside, location="weights.bin" if beside else None)


def _load(graph: Path, weights: bool) -> onnx.ModelProto:
    try:
        return onnx.load(graph, format="protobuf", load_external_data=weights)
    except (OSError, ValueError, DecodeError, onnx.checker.ValidationError) as error:
        raise BundleError(f"cannot load {graph}: {first_line(error)}; export the model again") from error
