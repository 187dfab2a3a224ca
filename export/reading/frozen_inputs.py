"""Inputs of a source that are frozen: their values become constants, and what they alone decide is folded."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

import onnx
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import UsageError
from fusioncam.further_inputs import ElementType
from fusioncam.input_values import InputValue, fitting_shape, read_value
from fusioncam.kernels.arrays import Array

TYPES = get_args(ElementType)


@dataclass(frozen=True)
class GivenInputs:
    """The inputs of a source that the user spoke of, by name.

    Attributes:
        frozen: Values that are constants now, in the shape that the source takes.
        defaults: Values of optional inputs that stay open.
    """

    frozen: dict[str, Array] = field(default_factory=dict)
    defaults: dict[str, Array] = field(default_factory=dict)


def freeze(proto: onnx.ModelProto, given: Mapping[str, InputValue]) -> GivenInputs:
    """Make constants of inputs, or keep optional ones open, whose constants are their defaults.

    Args:
        proto: The model; it is changed.
        given: Values by the name of the input; None keeps an optional input open.

    Raises:
        UsageError: There is no such input, or the value is of another type or shape.
    """
    graph, made = proto.graph, GivenInputs()
    inputs = {i.name: i for i in graph.input}
    constants = {i.name: i for i in graph.initializer}
    for name, value in given.items():
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r}; it has {', '.join(inputs)}")
        if value is None:
            if name not in constants:
                raise UsageError(f"input {name!r} has no default, so it is open already; leave it out, or give a value")
            made.defaults[name] = numpy_helper.to_array(constants[name])
        else:
            made.frozen[name] = _fitting(inputs[name], value)
        if name in constants:
            graph.initializer.remove(constants[name])
        if value is not None:
            graph.initializer.append(numpy_helper.from_array(made.frozen[name], name))
            graph.input.remove(inputs[name])
    return made


def _fitting(info: onnx.ValueInfoProto, value: InputValue) -> Array:
    """Return a value in the type and the shape of an input."""
    tensor = info.type.tensor_type
    kind = (
        "string" if tensor.elem_type == TensorProto.STRING else str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    )
    if kind not in (*TYPES, "string"):
        raise UsageError(f"input {info.name!r} is {kind}, for which no value can be given; export it as float32")
    array = read_value(value, kind, info.name)
    if not tensor.HasField("shape"):
        return array
    dims = [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]
    shape = fitting_shape(value, array, dims)
    if shape is None:
        takes, given = (", ".join("?" if d is None else str(d) for d in sizes) for sizes in (dims, array.shape))
        raise UsageError(f"input {info.name!r} takes {kind} ({takes}), and is given ({given}); give one of its shape")
    return array.reshape(shape)
