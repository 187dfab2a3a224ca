"""Differentiators of a model: this project and, where it is installed, onnx-ad."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from differences import ENGINES, Arrays

from fusioncam.errors import FusionCamError, ModelError, first_line
from fusioncam.export.gradient import Ops, backpropagate, path
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import settle
from fusioncam.kernels.arrays import Array

IR_VERSION = 10  # newer files hold nothing else here, but onnxruntime need not know them


class RefusedError(Exception):
    """A model that is refused by a line that says why."""


@dataclass(frozen=True)
class Question:
    """The gradient that is asked for.

    Attributes:
        model: A model of one input.
        name: The input.
        x: Its value.
        output: The output to differentiate.
        engine: What runs the model and its gradient.
    """

    model: onnx.ModelProto
    name: str
    x: Array
    output: str
    engine: str

    def run(self, model: onnx.ModelProto, feeds: Arrays) -> Arrays:
        """Return the outputs of a model that was made of this one, by name."""
        return ENGINES[self.engine](model)({self.name: self.x, **feeds})


Gradient = Callable[[Array], Array]  # of sum(weights * output), for weights of the shape of the output
Differentiator = Callable[[Question], Gradient | None]


def by_fusioncam(question: Question) -> Gradient | None:
    """Return the gradient that `export` appends, or None where the output does not depend on the input.

    Raises:
        RefusedError: It is refused.
    """
    try:
        both = with_gradient(question)
    except FusionCamError as error:
        raise RefusedError(first_line(error)) from error
    if both is None:
        return None
    return lambda weights: np.asarray(question.run(both, {"seed": weights})["dx"])


def with_gradient(question: Question) -> onnx.ModelProto | None:
    """Return the model as `export` loads it, with a further input `seed` and output `dx`.

    Returns:
        None where the output is a constant.

    Raises:
        FusionCamError: It is refused.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        older = onnx.ModelProto()
        older.CopyFrom(question.model)
        older.ir_version = min(older.ir_version, IR_VERSION)
        onnx.save(older, file)
        # onnx.reference runs opsets that are newer than the installed onnxruntime, which `export` refuses.
        loaded, _ = load_converted(file, newer=True)
    graph = loaded.graph
    wanted = next(o for o in graph.outputs if o.name == question.output)
    graph.outputs.clear()
    graph.outputs.append(wanted)
    if wanted.producer() is None or not path(graph.inputs[0], wanted):
        return None
    while not settle(loaded, [_finite(record(loaded, question), graph.outputs[0])], ENGINES[question.engine]):
        pass  # what a loop held is measured, too
    source, target = graph.inputs[0], graph.outputs[0]
    seed = ir.Value(name="seed", shape=target.shape, type=target.type)
    graph.inputs.append(seed)
    op = Ops(graph, "gradient")
    gradient = op.Identity(backpropagate(op, target, seed, source))
    gradient.name, gradient.shape, gradient.type = "dx", source.shape, source.type
    graph.outputs.append(gradient)
    return ir.to_proto(loaded)


def _finite(tensors: dict[ir.Value, Array], output: ir.Value) -> dict[ir.Value, Array]:
    """Return the tensors without infinities in the output: `export` takes them for damage, a masked score has them."""
    return {v: np.nan_to_num(a) if v is output else a for v, a in tensors.items()}


def record(model: ir.Model, question: Question) -> dict[ir.Value, Array]:
    """Run a model, set all shapes, and return every tensor.

    Raises:
        ModelError: The engine runs the source, but not what is made of it.
    """
    graph = model.graph
    kept, values = list(graph.outputs), {str(o.name): o for node in graph for o in node.outputs if o.name}
    graph.outputs.clear()
    graph.outputs.extend(values.values())
    proto = ir.to_proto(model)
    graph.outputs.clear()
    graph.outputs.extend(kept)
    try:
        found = question.run(proto, {})
    except Exception as error:  # onnxruntime's share no base class
        raise ModelError(f"{question.engine} cannot run the model: {first_line(error)}") from error
    graph.inputs[0].shape = ir.Shape(question.x.shape)
    arrays = {values[k]: np.asarray(v) for k, v in found.items() if isinstance(v, np.ndarray | np.generic)}
    for value, array in arrays.items():
        value.shape, value.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
    return arrays | {graph.inputs[0]: question.x}


def by_onnx_ad(question: Question) -> Gradient | None:
    """Return the gradient of onnx-ad's reverse pass, whose seed and result have one more axis, for several seeds.

    Raises:
        RefusedError: It is refused.
    """
    import onnx_ad

    try:
        both = onnx_ad.reverse(question.model, inputs=[question.name], outputs=[question.output], layout="onnx")
    except onnx_ad.UnsupportedOperator as error:
        raise RefusedError(first_line(error)) from error
    seed = next(i.name for i in both.graph.input if i.name.startswith("adj"))
    result = next(o.name for o in both.graph.output if o.name.startswith("adj"))
    return lambda weights: np.asarray(question.run(both, {seed: weights[..., None]})[result])[..., 0]


DIFFERENTIATORS: dict[str, Differentiator] = {"fusioncam": by_fusioncam}
if find_spec("onnx_ad"):
    DIFFERENTIATORS["onnx-ad"] = by_onnx_ad
