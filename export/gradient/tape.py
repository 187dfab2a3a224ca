"""Writing ONNX nodes like arithmetic: `op.Mul(a, b)` appends a Mul node to the graph and returns its output."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.tape import Tape

Dims = tuple[int | None, ...]
Build = Callable[["Ops"], Sequence[ir.Value]]
Made = TypeVar("Made")


def dims(value: ir.Value) -> Dims:
    """Return the shape of `value`; a dimension that grows with the batch is None.

    Raises:
        ValueError: The shape is unknown.
    """
    if value.shape is None:
        raise ValueError(f"the shape of {value.name!r} is unknown")
    return tuple(d if isinstance(d, int) else None for d in value.shape)


def numpy_type(value: ir.Value) -> np.dtype[Any]:
    """Return NumPy's type of the elements of `value`."""
    assert value.dtype is not None
    return np.dtype(value.dtype.numpy())


class Ops:
    """A writer that appends nodes to a graph.

    Args:
        graph: The graph that nodes and constants are added to.
        prefix: First part of every new name, so that none collides with the model's own.
        around: The writer of the graph around this one, which holds the constants of both.
    """

    def __init__(self, graph: ir.Graph, prefix: str, around: "Ops | None" = None) -> None:
        self.graph, self._tape = graph, Tape(graph)
        self._around = around
        self._prefix = prefix
        self._taken = {o.name for node in graph for o in node.outputs}
        self._taken |= {v.name for v in graph.inputs} | set(graph.initializers)
        self._count = 0
        self._shared: dict[Hashable, Any] = {}
        self._constants: dict[tuple[Any, ...], ir.Value] = {}

    def __getattr__(self, op_type: str) -> Callable[..., ir.Value]:
        """Return the function that appends a node of type `op_type`: inputs by position, attributes by name."""
        if not op_type[0].isupper():
            raise AttributeError(op_type)

        def emit(*inputs: ir.Value | None, **attributes: Any) -> ir.Value:
            name = self.name(op_type)
            present = {k: v for k, v in attributes.items() if v is not None}
            return self._tape.op(op_type, inputs, present, name=name, output=ir.Value(name=name))

        return emit

    def many(self, op_type: str, *inputs: ir.Value | None, count: int, **attributes: Any) -> Sequence[ir.Value]:
        """Return the `count` outputs of a new node."""
        name = self.name(op_type)
        outputs = [ir.Value(name=f"{name}_{i}") for i in range(count)]
        return self._tape.op_multi_out(op_type, inputs, attributes, outputs=outputs, name=name)

    def name(self, stem: str) -> str:
        """Return a new name."""
        while True:
            name = f"{self._prefix}/{stem}_{self._count}"
            self._count += 1
            if name not in self._taken:
                self._taken.add(name)
                return name

    def call(self, value: ir.Value, name: str) -> ir.Value:
        """Give a new value a name of its own, if that is free; returns the value."""
        if name not in self._taken:
            self._taken.add(name)
            value.name = name
        return value

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> ir.Value:
        """Return a constant; equal constants share one initializer."""
        if self._around is not None:
            return self._around.constant(array, dtype)
        data = np.ascontiguousarray(np.asarray(array, dtype))
        if np.ndim(array) == 0:
            data = data.reshape(())
        key = (data.dtype.str, data.shape, data.tobytes())
        if key not in self._constants:
            self._constants[key] = self._tape.initializer(ir.tensor(data, name=self.name("constant")))
        return self._constants[key]

    def once(self, key: Hashable, build: Callable[[], Made]) -> Made:
        """Return what `build` appends: for one key it is asked once, whatever rules share its result."""
        if key not in self._shared:
            self._shared[key] = build()
        found: Made = self._shared[key]
        return found

    def like(self, array: npt.ArrayLike, value: ir.Value) -> ir.Value:
        """Return a constant of the element type of `value`."""
        return self.constant(array, numpy_type(value))

    def ints(self, values: Sequence[int]) -> ir.Value:
        """Return a 1-D int64 constant: axes, starts, sizes."""
        return self.constant(np.asarray(values, np.int64))

    def own(self, weights: ir.Value) -> ir.Value:
        """Return constant weights for a second reader, under another name; other values are returned as they are.

        QNN's provider lays weights out as their first reader wants them, and a reader with another order gets wrong
        numbers. A session folds the Reshape, so the file holds the weights once.
        """
        if not weights.uses() or ir.convenience.get_const_tensor(weights) is None:
            return weights
        return self.Reshape(weights, self.ints([d for d in dims(weights) if d is not None]))

    def reshape(self, value: ir.Value, shape: Dims, like: ir.Value | None = None) -> ir.Value:
        """Return `value` in `shape`, where None is the batch; `like` has that shape, for the case of two unknowns."""
        if shape.count(None) <= 1:
            return self.Reshape(value, self.ints([-1 if d is None else d for d in shape]))
        if like is None:
            raise NotImplementedError(f"two unknown dimensions in {shape}")
        return self.Reshape(value, self.Shape(like))

    def reshape_as(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """Return `value` in the shape of `like`."""
        return self.reshape(value, dims(like), like)

    def expand_as(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """Return a tensor, which has the rank and the batch of `like`, broadcast to the shape of `like`."""
        return self.Expand(value, self.ints([1 if d is None else d for d in dims(like)]))

    def zeros_like(self, value: ir.Value) -> ir.Value:
        """Return zeros of the shape and type of `value`; unlike value * 0, never NaN."""
        return self.Expand(self.like(0, value), self.Shape(value))


def subgraph(name: str, build: Build, inputs: Sequence[ir.Value] = ()) -> ir.Graph:
    """Return a graph for the inside of a node. It may use values of the graphs around it.

    Args:
        name: The name of the graph, and the first part of the names in it.
        build: Appends the nodes, and returns the outputs.
        inputs: The inputs of the graph.
    """
    graph = ir.Graph(inputs, [], nodes=[], name=name)
    graph.outputs.extend(build(Ops(graph, name)))
    return graph
