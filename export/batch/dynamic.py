"""Dynamic quantisation, image by image.

DynamicQuantizeLinear finds one scale for a whole batch, so the scores of a picture would depend on those beside it.
Here every image gets its own scale, as it would alone. The products are then those of whole numbers held as floats,
which are exact.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops, dims, operator_name
from fusioncam.export.gradient.marks import BY_RULE, STRAIGHT, ZERO, mark
from fusioncam.export.operators import MOVEMENT, VIEWS
from fusioncam.export.reading.shapes import measure
from fusioncam.kernels.arrays import Float32Array

QUANTIZES, FUSED = "DynamicQuantizeLinear", "DynamicQuantizeMatMul"
LEVELS = 255.0
NOT_BY_IMAGE = (
    f"{QUANTIZES} finds one scale for a whole batch, and what is made of it image by image gives other logits than the "
    "source does; export the model before its quantisation"
)


def quantise_by_image(model: ir.Model) -> bool:
    """Replace operators that quantise a whole batch at once; a model without them is left as it is.

    Args:
        model: A canonical model.

    Returns:
        Whether there was any.

    Raises:
        ModelError: The batch is not the first axis there, or an operator takes the quantised values otherwise.
    """
    graph = model.graph
    if not any(node.op_type in (QUANTIZES, FUSED) for node in graph):
        return False
    op = Ops(graph, "by_image")
    products: dict[str, Callable[[Ops, ir.Node], ir.Value]] = {
        "ConvInteger": _convolution, "MatMulInteger": _product, "MatMulIntegerToFloat": _scaled_product, FUSED: _fused,
    }  # fmt: skip
    parts: set[ir.Value] = set()  # quantised values and zero points, now floats
    for node in list(graph):
        if node.op_type == QUANTIZES:
            new: tuple[ir.Value, ...] = _quantised(op, _first(node))
            parts.update((new[0], new[2]))
        elif node.op_type == FUSED or (node.op_type in products and not parts.isdisjoint(node.inputs)):
            new = (products[node.op_type](op, node),)
        else:
            if not parts.isdisjoint(node.inputs):
                if node.op_type not in MOVEMENT and node.op_type not in VIEWS:
                    raise _refusal(node, f"its result goes into {operator_name(node)}")
                parts.update(node.outputs)
            continue
        for old, value in zip(node.outputs, new, strict=False):
            old.replace_all_uses_with(value)
            old.name, value.name = value.name, old.name
            value.shape = value.shape or old.shape  # which the next node asks for
        graph.remove(node, safe=True)
    graph.sort()
    measure(model)
    return True


def _first(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    if dims(value).count(None) != 1:
        raise _refusal(node, "its input has no axis for the batch")
    return value


def _refusal(node: ir.Node, why: str) -> ModelError:
    return ModelError(
        f"{QUANTIZES} finds one scale for a whole batch, and cannot be done image by image at node {node.name!r}: "
        f"{why}; export the model before its quantisation"
    )


def _quantised(op: Ops, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the values in 0..255, scale and zero point of every image, as onnxruntime finds them for one."""
    zero, one, most = (op.constant(v, np.float32) for v in (0, 1, LEVELS))
    low = op.Min(_of_images(op, x, "ReduceMin"), zero)
    high = op.Max(_of_images(op, x, "ReduceMax"), zero)
    scale = op.Div(op.Sub(high, low), most)
    scale = op.Where(op.Equal(scale, zero), one, scale)
    point = op.Clip(op.Round(op.Div(op.Neg(low), scale)), zero, most)
    # The scale counts as a constant, and rounding as the identity.
    steps = mark(op.Round(mark(op.Div(x, scale), BY_RULE)), STRAIGHT)
    return mark(op.Clip(mark(op.Add(steps, point), BY_RULE), zero, most), STRAIGHT), scale, point


def _of_images(op: Ops, x: ir.Value, reduce: str) -> ir.Value:
    """Return the least or greatest value of every image, in the rank of `x`; windows in the batch share it."""
    batch, rank = dims(x).index(None), len(dims(x))
    found = mark(getattr(op, reduce)(x, op.ints([i for i in range(rank) if i != batch]), keepdims=1), ZERO)
    assert x.shape is not None
    windows = int(str(x.shape[batch]).partition("*")[0]) if "*" in str(x.shape[batch]) else 1
    if windows == 1:
        return found
    of_image = getattr(op, reduce)(op.Reshape(found, op.ints([-1, windows])), op.ints([1]), keepdims=1)
    return op.Reshape(op.Tile(of_image, op.ints([1, windows])), op.ints([-1 if i == batch else 1 for i in range(rank)]))


def _centred(op: Ops, node: ir.Node, index: int, point: int, per_row: bool = False) -> ir.Value:
    """Return input `index` less its zero point, as floats; with `per_row` there is one for every first index."""
    value, less = (node.inputs[i] if i < len(node.inputs) else None for i in (index, point))
    assert value is not None
    numbers = _floats(op, value)
    if less is None:
        return numbers
    numbered = _floats(op, less)
    if per_row and less.const_value is not None and len(dims(less)) == 1:
        numbered = op.Reshape(numbered, op.ints([-1, *[1] * (len(dims(value)) - 1)]))
    return mark(op.Sub(numbers, numbered), BY_RULE)


def _floats(op: Ops, value: ir.Value) -> ir.Value:
    if value.const_value is None:
        return op.Cast(value, to=ir.DataType.FLOAT)
    array: Float32Array = value.const_value.numpy().astype(np.float32)
    return op.constant(array)


def _convolution(op: Ops, node: ir.Node) -> ir.Value:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    return op.Conv(_centred(op, node, 0, 2), _centred(op, node, 1, 3, per_row=True), **attributes)


def _product(op: Ops, node: ir.Node) -> ir.Value:
    return op.MatMul(_centred(op, node, 0, 2), _centred(op, node, 1, 3))


def _scaled_product(op: Ops, node: ir.Node) -> ir.Value:
    product = op.MatMul(_centred(op, node, 0, 4), _centred(op, node, 1, 5))
    return _biased(op, op.Mul(product, op.Mul(node.inputs[2], node.inputs[3])), node, 6)


def _fused(op: Ops, node: ir.Node) -> ir.Value:
    values, scale, point = _quantised(op, _first(node))
    product = op.MatMul(mark(op.Sub(values, point), BY_RULE), _centred(op, node, 1, 3))
    return _biased(op, op.Mul(product, op.Mul(scale, node.inputs[2])), node, 4)


def _biased(op: Ops, value: ir.Value, node: ir.Node, index: int) -> ir.Value:
    bias = node.inputs[index] if index < len(node.inputs) else None
    return value if bias is None else op.Add(value, bias)
