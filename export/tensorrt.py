"""Operators and uses of operators with which TensorRT takes no graph, as the builder of TensorRT-RTX 1.7.1 tells.

Where ONNX defines such an operator by a body, an export for TensorRT writes that body; it refuses the others by name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient.reader import NodeReader

MOST = 3840  # of a TopK
# Operators of ONNX that the parser does not know, but for those of texts and training; NonZero it knows as a plugin.
UNKNOWN = (
    *("AffineGrid", "Bernoulli", "BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"),
    *("CenterCropPad", "Col2Im", "Compress", "ConcatFromSequence", "ConvInteger", "CumProd", "DFT", "DeformConv"),
    *("Det", "DynamicQuantizeLinear", "MatMulInteger", "MaxRoiPool", "MaxUnpool", "MelWeightMatrix", "NonZero"),
    *("Multinomial", "Optional", "OptionalGetElement", "OptionalHasElement", "QLinearConv", "QLinearMatMul"),
    *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert", "SequenceLength"),
    *("SequenceMap", "SplitToSequence", "SwiGLU", "Unique"),
)


@dataclass(frozen=True)
class Use(NodeReader):
    """One use of an operator."""

    node: ir.Node


@dataclass(frozen=True)
class Limit:
    """A reason for which TensorRT takes no graph with an operator, and the uses of the operator that it is about."""

    why: str
    about: Callable[[Use], bool]


def _shifts(use: Use) -> bool:
    zero = use.constant(2)
    return (zero is not None and bool(zero.any())) or (use.has(2) and zero is None)


def _keeps_turns(use: Use) -> bool:
    return len(use.node.outputs) > len(use.node.inputs) - 2 and not use.has(0)


def _takes_many(use: Use) -> bool:
    count = use.constant(1)
    return count is not None and int(count.max()) > MOST


def _counts_from_the_end(use: Use) -> bool:
    return min((*use.attribute("scan_input_axes", ()), *use.attribute("scan_output_axes", ())), default=0) < 0


def _spreads(use: Use) -> bool:
    return all(max(use.node.attributes.get_ints(name, (1,))) > 1 for name in ("strides", "dilations"))


_NO_SUCH = Limit("it does not know that operator", lambda use: True)
_ADDS = Limit(
    "it writes to a place once, without adding or comparing", lambda use: use.attribute("reduction", "none") != "none"
)
_SHIFTS = Limit("its zero points are 0", _shifts)
LIMITS: Mapping[str, Sequence[Limit]] = {
    **dict.fromkeys(UNKNOWN, (_NO_SUCH,)),
    "Attention": (Limit("it has kernels for some sizes of heads in float16 only", lambda use: True),),
    "ConvTranspose": (Limit("it takes strides or dilations, not both", _spreads),),
    "DequantizeLinear": (
        _SHIFTS,
        Limit("it takes whole numbers of 8 bits", lambda use: use.input(0).dtype == ir.DataType.INT32),
    ),
    "Loop": (Limit("it keeps no turns of a loop that a condition alone ends", _keeps_turns),),
    "MaxPool": (Limit("it gives no positions of maxima", lambda use: len(use.node.outputs) > 1),),
    "QuantizeLinear": (_SHIFTS,),
    "Resize": (Limit("it does not smooth before it shrinks", lambda use: bool(use.attribute("antialias", 0))),),
    "Scan": (Limit("it counts axes from the front", _counts_from_the_end),),
    "ScatterElements": (_ADDS,),
    "ScatterND": (_ADDS,),
    "TopK": (Limit(f"it sorts out {MOST} numbers at most", _takes_many),),
}


def why_refused(node: ir.Node) -> str | None:
    """Return why TensorRT takes no graph with a node; None where nothing is known against it."""
    if node.domain not in ("", "ai.onnx"):
        return "it knows ONNX's operators only"
    return next((limit.why for limit in LIMITS.get(node.op_type, ()) if limit.about(Use(node))), None)


def _is_refused(node: ir.Node) -> bool:
    return why_refused(node) is not None


REFUSED: Mapping[str, Callable[[ir.Node], bool]] = dict.fromkeys(LIMITS, _is_refused)


def suit(model: ir.Model) -> None:
    """Write a model, in canonical form, as TensorRT's parser reads it."""
    _compute_biases(model)
    for node in model.graph.all_nodes():
        if node.op_type == "Einsum":
            node.attributes["equation"] = ir.AttrString("equation", _lowercase(node.attributes.get_string("equation")))


def _lowercase(equation: str) -> str:
    """Return the equation of an Einsum in small letters, as far as there are enough."""
    large = "".join(sorted({c for c in equation if c.isupper()}))
    free = "".join(c for c in ascii_lowercase if c not in equation)
    return equation.translate(str.maketrans(large[: len(free)], free[: len(large)]))


def _compute_biases(model: ir.Model) -> None:
    """Write quantised constants of at most one axis as the real numbers that they stand for.

    TensorRT takes no biases of 32 bits, as onnxruntime's quantiser writes them, and no single numbers.
    """
    for node in [*model.graph]:
        if node.op_type != "DequantizeLinear":
            continue
        use = Use(node)
        x, scale, zero = use.constant(0), use.constant(1), use.constant(2)
        if x is None or x.ndim > 1 or scale is None or (use.has(2) and zero is None) or use.attribute("block_size", 0):
            continue
        whole = x.astype(np.int32) - (0 if zero is None else zero.astype(np.int32))
        real = ir.tensor((whole * scale).astype(scale.dtype))
        old = node.outputs[0]
        new = ir.Value(name=old.name, const_value=real, type=ir.TensorType(real.dtype), shape=ir.Shape(x.shape))
        old.name = None
        old.replace_all_uses_with(new)
        model.graph.register_initializer(new)
        model.graph.remove(node, safe=True)


def refuse_graphs(graphs: Mapping[str, ir.Model]) -> None:
    """Refuse what TensorRT would refuse.

    Args:
        graphs: Graphs of a bundle by file name.

    Raises:
        ModelError: An operator that TensorRT does not take; the message names it, and one node of each.
    """
    for name, model in graphs.items():
        found: dict[str, str] = {}
        for node in model.graph.all_nodes():
            if (why := why_refused(node)) is not None:
                found.setdefault(node.op_type, f"{node.op_type} (node {node.name!r}): {why}")
        if found:
            raise ModelError(
                f"TensorRT takes no {name} of this model, for {'; '.join(found.values())}. Choose a later layer, leave "
                "the gradient out, or export without --for tensorrt, for onnxruntime"
            )
