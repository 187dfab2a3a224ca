"""The network of the masked passes, put into a graph wherever pictures pass."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.nodes import constants_of, put_into

SPLIT = 1 + 2.0**13  # Veltkamp's constant, which keeps 11 of the 24 digits of float32, those of float16
BEYOND = 65520  # from here on, float16 rounds to infinity


def masked(op: Ops, image: ir.Value, masks: ir.Value, half: bool) -> ir.Value:
    """Return pictures x * m (n, 3, H, W) for the score graph, from x (1, 3, H, W) and m (n, 1, H, W) float32.

    A float16 graph takes float16 pictures. onnxruntime, which computes in float32 on a CPU, removes a Cast to float16
    and back, so the rounding is done in float32 as well (Dekker, A floating-point technique, 1971); numbers beyond
    float16 become infinite.
    """
    pictures = op.Mul(image, masks)
    if not half:
        return pictures
    large = op.Mul(pictures, op.constant(SPLIT, np.float32))
    rounded = op.Sub(large, op.Sub(large, pictures))
    beyond = op.GreaterOrEqual(op.Abs(pictures), op.constant(BEYOND, np.float32))
    return op.Cast(op.Where(beyond, op.constant(np.inf, np.float32), rounded), to=ir.DataType.FLOAT16)


class Network:
    """A graph that takes pictures. A copy of it is put wherever pictures pass, and all copies share their weights.

    Args:
        model: The graph; its first input is `image`, the others are the tensors of a target.
        graph: The graph that holds the weights of all copies.
        prefix: The first part of every new name.
    """

    def __init__(self, model: ir.Model, graph: ir.Graph, prefix: str) -> None:
        self._model, self._graph, self._prefix, self._copies = model, graph, prefix, 0
        self.half = model.graph.inputs[0].dtype == ir.DataType.FLOAT16

    def run(self, op: Ops, image: ir.Value, masks: ir.Value, target: Mapping[str, ir.Value]) -> dict[str, ir.Value]:
        """Return the outputs for pictures x * m by name, from x (1, C, H, W) and m (n, 1, H, W) float32.

        Args:
            op: Appends to the graph.
            image: x.
            masks: m.
            target: The tensors of a target, one row each; a network that gives a vector of logits takes none.
        """
        self._copies += 1
        inputs = {**target, "image": masked(op, image, masks, self.half)}
        name = f"{self._prefix}{self._copies}"
        return put_into(op.graph, self._model.clone(), name, inputs, constants_of(self._graph))
