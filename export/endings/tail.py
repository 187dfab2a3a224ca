"""The end of a model, after its last weights: its nodes, and the values of its tensors for several pictures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnxruntime import OrtValue

from fusioncam.export.endings.ranks import WEIGHTED
from fusioncam.export.gradient import ancestors
from fusioncam.export.random_pictures import patchwork
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.shapes import arrays
from fusioncam.export.sessions import running, session
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array

MOST_NODES = 500
LOG_OF_0 = -1000.0  # in place of -infinity, which is a fair logarithm of a probability
VIEWS = ("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")


@dataclass(frozen=True)
class Tail:
    """The end of a model.

    Attributes:
        output: The output of the model.
        nodes: Nodes that the output is computed by, from the last weighted operators on, in the order of the graph.
        values: Values of tensors, (pictures, numbers) float64. Pictures that overflow are left out.
        shapes: Shapes of these tensors, the batch included.
        batch: The batch that the model was run with.
        half: Whether the model computes in float16.
        floors: Values in place of -infinity, for the tensors that hold it.
    """

    output: ir.Value
    nodes: list[ir.Node]
    values: dict[ir.Value, Array]
    shapes: dict[ir.Value, tuple[int, ...]]
    batch: int
    half: bool
    floors: dict[ir.Value, Array]

    @property
    def tolerance(self) -> float:
        """Return the largest difference, relative to 1, of numbers that are equal but for rounding."""
        return 5e-3 if self.half else 5e-5

    @property
    def least(self) -> float:
        """Return the least number that differences of probabilities are relative to."""
        return 1e-2 if self.half else 1e-3

    def before(self, value: ir.Value) -> list[ir.Value]:
        """Return the tensors that `value` is computed from, the last ones first."""
        nodes = ancestors(value)
        tensors = [o for node in reversed(self.nodes) if node in nodes for o in node.outputs if o in self.values]
        return [o for o in tensors if o is not value]

    def numbers(self, value: ir.Value) -> int:
        """Return the count of numbers that a tensor holds for a picture; 0 where it is unknown."""
        return self.values[value].shape[1] if value in self.values else 0


def before_views(value: ir.Value) -> ir.Value:
    """Return the tensor before all operators that only copy or reshape; a cast to float16 rounds, so it is kept."""
    while (node := value.producer()) is not None and node.op_type in VIEWS and node.inputs and not _halves(node):
        assert node.inputs[0] is not None
        value = node.inputs[0]
    return value


def _halves(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.attributes.get_int("to", 1) == ir.DataType.FLOAT16


def tail_of(model: ir.Model, batch: int) -> Tail:
    """Return the end of a model, which is run on several pictures.

    Args:
        model: A model with the input `image` and one output.
        batch: The only batch that the model takes, or 1. A picture is repeated over it.

    Raises:
        ModelError: onnxruntime cannot run the model.
    """
    graph = model.graph
    output = graph.outputs[0]
    last = ancestors(output, ends=WEIGHTED, most=MOST_NODES)
    nodes = [node for node in graph if node in last]
    values = [o for node in nodes for o in node.outputs if o.name]
    graph.outputs[:] = values
    rows: list[dict[ir.Value, Array]] = []
    try:
        runner = session(model, optimize=False)
        with running(batch):
            for n, images in enumerate(_pictures(graph.inputs[0], batch)):
                feeds = {"image": images, **drawn(further_inputs(model), batch, n)}
                held = {name: OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
                results = runner.run_with_ort_values(None, held)
                rows.append(arrays({v: r for v, r in zip(values, results, strict=True) if r.is_tensor()}))
    finally:
        graph.outputs[:] = [output]
    kept = {
        v: runs
        for v, runs in ((v, [r[v] for r in rows if v in r]) for v in values)
        if len(runs) == len(rows)
        and all(r.dtype.kind in "fiu" and r.size % batch == 0 for r in runs)
        and len({r.shape for r in runs}) == 1
    }
    every_value = {v: np.stack([r.reshape(batch, -1)[0].astype(np.float64) for r in runs]) for v, runs in kept.items()}
    floors = {v: np.array(LOG_OF_0, kept[v][0].dtype) for v, array in every_value.items() if np.isneginf(array).any()}
    for array in every_value.values():
        array[array == -np.inf] = LOG_OF_0
    finite = _finite(every_value, output)
    half = any(runs[0].dtype == np.float16 for runs in kept.values())
    shapes = {v: runs[0].shape for v, runs in kept.items()}
    return Tail(output, nodes, {v: a[finite] for v, a in every_value.items()}, shapes, batch, half, floors)


def _finite(values: dict[ir.Value, Array], output: ir.Value) -> Array:
    """Return which pictures stay finite, (pictures,) bool: in all tensors, or in the output if fewer than two do."""
    rows = {value: np.asarray(np.isfinite(array).all(axis=1)) for value, array in values.items()}
    everywhere = np.asarray(np.all(list(rows.values()), axis=0))
    return everywhere if everywhere.sum() > 1 or output not in rows else rows[output]


def _pictures(image: ir.Value, batch: int) -> Iterator[Array]:
    """Yield noise and patches at the scales in which models take pixels, each (batch, C, H, W) float32."""
    shape = tuple(d for d in (image.shape or ())[1:] if isinstance(d, int))
    rng = np.random.default_rng(0)
    made: tuple[Callable[[], Array], ...] = (
        lambda: rng.random(shape),
        lambda: rng.normal(size=shape),
        lambda: 0.2 * rng.normal(size=shape),
        lambda: 0.02 * rng.normal(size=shape),
        lambda: 255 * rng.random(shape),
        lambda: patchwork(rng, shape)[0],
        lambda: 255 * patchwork(rng, shape)[0],
    )
    for make in made:
        yield np.repeat(make().astype(np.float32)[None], batch, axis=0)
