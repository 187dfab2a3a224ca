"""Rules for the place of the batch: operators on pictures, elements, single axes, products and sequences.

An operator that is in no table may do anything with the images of a batch, so it ends the search.
"""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from fusioncam.export.batch.batch_axis import PASSAGES, NoPlaceError, Passage, Place, Visit, only, passage
from fusioncam.export.gradient.rules.einsum import read_equation

FRONT = Place(0)
CONTRIB = "com.microsoft"

# Element by element; operands broadcast as in NumPy.
POINTWISE = (
    *("Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift", "BitwiseAnd", "BitwiseNot"),
    *("BitwiseOr", "BitwiseXor", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Dropout", "Elu"),
    *("Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity"),
    *("IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish", "Mod", "Mul", "Neg"),
    *("Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor"),
)
ONE_PICTURE = (
    *("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool"),
    *("GlobalMaxPool", "GlobalLpPool", "LRN", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
    *("DepthToSpace", "SpaceToDepth", "Col2Im"),
)
# Operators along axes that an attribute names, or the input of this index; the axes where neither does.
ALONG = {
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), (None, [-1])),
    **dict.fromkeys(("TopK", "LpNormalization"), (None, [-1])),
    **dict.fromkeys(("ArgMax", "ArgMin", "Split"), (None, [0])),
    "MeanVarianceNormalization": (None, [0, 2, 3]),
    "CumSum": (1, None),
    "CumProd": (1, None),
}
REDUCTIONS = tuple(
    f"Reduce{kind}" for kind in ("Mean", "Sum", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare")
)
NOT_ONE_BY_ONE = "mixes or picks images of the batch"


def _broadcast(v: Visit, inputs: Iterable[int], end: int = 0) -> list[Passage]:
    """Return the passage of operands that broadcast over all axes of the output but the last `end`."""
    inputs, rank = list(inputs), len(v.after)
    v.only(*inputs)
    shift = {i: rank - len(v.shape(i)) for i in inputs if v.has(i)}
    place = only(replace(v.place(i), axis=v.place(i).axis + shift[i]) for i in v.carrying)
    if place.axis >= rank - end:
        raise NoPlaceError(NOT_ONE_BY_ONE)
    size, operands = v.after[place.axis], {}
    for i, moved in shift.items():
        axis = place.axis - moved
        if v.carries(i) and v.shape(i)[axis] != size:
            raise NoPlaceError("repeats the images of the batch")
        if not v.carries(i) and axis >= 0:
            operands[i] = replace(place, axis=axis)
    return [v.everywhere(place, operands)]


@passage(*ONE_PICTURE)
@passage("QLinearGlobalAveragePool", "QLinearAveragePool", domain=CONTRIB)
def _one_picture(v: Visit) -> list[Passage]:
    if v.attribute("training_mode", 0):
        remedy = "export the model in evaluation mode (torch: model.eval())"
        raise NoPlaceError("is in training mode: it normalises by the statistics of the whole batch", remedy)
    if v.node.op_type == "MaxPool" and len(v.node.outputs) > 1 and v.node.outputs[1].uses():
        raise NoPlaceError("numbers the pixels of the whole batch")
    return [v.stacked(FRONT, [0])]


@passage("Attention")
def _attention(v: Visit) -> list[Passage]:
    wide = v.has(3) and len(v.shape(3)) == 4 and (v.carries(3) or v.shape(3)[0] > 1)  # else it serves all windows
    mask = 3 if wide else None
    return [v.stacked(FRONT, [i for i in (0, 1, 2, mask, 4, 5) if i is not None])]


@passage("RotaryEmbedding")
def _rotary(v: Visit) -> list[Passage]:
    caches = [i for i in (1, 2) if len(v.shape(i)) == 3]
    return [v.stacked(FRONT, [0, *caches, 3])]


@passage("LSTM", "GRU", "RNN")
def _recurrent(v: Visit) -> list[Passage]:
    batchwise = v.attribute("layout", 0) == 1
    image, state = Place(0 if batchwise else 1), Place(0 if batchwise else 1)
    v.only(0, 5, 6)
    operands = {4: FRONT} if v.has(4) else {}
    for i, place in ((0, image), (5, state), (6, state)):
        if v.carries(i) and v.place(i) != place:
            raise NoPlaceError("takes the images of the batch for steps in time")
        if v.has(i) and not v.carries(i):
            operands[i] = place
    sequence = Place(0 if batchwise else 2)
    return [Passage((sequence, *[state] * (len(v.node.outputs) - 1)), operands, broadcasts=False)]


@passage("QuantizeLinear", "DequantizeLinear")
@passage("QuantizeLinear", "DequantizeLinear", domain=CONTRIB)
def _rounded(v: Visit) -> list[Passage]:
    v.only(0)
    place, rank = v.place(0), len(v.before)
    per_axis = np.prod(v.shape(1)) > 1
    if per_axis and v.attribute("axis", 1) % rank == place.axis:
        raise NoPlaceError("rounds every image of the batch by a scale of its own")
    blocks = [i for i in (1, 2) if per_axis and v.has(i) and len(v.shape(i)) == rank > 1]
    return [v.everywhere(place, dict.fromkeys(blocks, place), broadcasts=False)]


@passage("DynamicQuantizeLinear")
def _rounded_together(v: Visit) -> list[Passage]:
    if v.place(0) != FRONT:
        raise NoPlaceError("chooses one scale for all images of the batch")
    return [Passage((FRONT, None, None))]  # a scale for each image is made of it afterwards


@passage("LayerNormalization", "RMSNormalization")
def _layer_normalization(v: Visit) -> list[Passage]:
    v.only(0)
    if v.place(0).axis >= v.attribute("axis", -1) % len(v.before):
        raise NoPlaceError("normalises across the batch")
    return [v.everywhere(v.place(0))]


@passage("QLinearSoftmax", domain=CONTRIB)
@passage(*ALONG, *REDUCTIONS)
def _along(v: Visit) -> list[Passage]:
    v.only(0)
    place, rank = v.place(0), len(v.before)
    if place.axis in (axes := _axes(v)):
        raise NoPlaceError(NOT_ONE_BY_ONE)
    kept = len(v.after) == rank
    return [v.everywhere(place if kept else replace(place, axis=place.axis - sum(a < place.axis for a in axes)))]


def _axes(v: Visit) -> list[int]:
    """Return the axes that an operator works along, counted from the front."""
    rank = len(v.before)
    position, default = ALONG.get(v.node.op_type, (1, list(range(rank))))
    axes = v.attribute("axes", v.attribute("axis"))
    if axes is None and position is not None and v.has(position):
        axes = v.constant(position)
        if axes is None:
            raise NoPlaceError("works along axes that are no constants")
    if axes is None or (np.size(axes) == 0 and not v.attribute("noop_with_empty_axes", 0)):
        axes = [] if v.attribute("noop_with_empty_axes", 0) else [-1] if default is None else default
    return [int(a) % rank for a in np.ravel(axes)]


def _product(v: Visit, factors: tuple[int, int]) -> list[Passage]:
    """Return the passage through a product of matrices, whose axes before the last two broadcast."""
    v.only(*factors)
    ranks = [len(v.shape(i)) for i in factors]
    wide = max(*ranks, 2) - 2  # axes that broadcast
    places = set()
    for side, (i, rank) in enumerate(zip(factors, ranks, strict=True)):
        if not v.carries(i):
            continue
        place = v.place(i)
        if place.axis == (rank - 1 if side == 0 or rank == 1 else rank - 2):
            raise NoPlaceError("sums over the batch")
        axis = place.axis + wide - (rank - 2)
        if axis >= wide:
            axis = wide + (side == 1 and ranks[0] > 1)
        elif v.shape(i)[place.axis] != v.after[axis]:
            raise NoPlaceError("repeats the images of the batch")
        places.add(replace(place, axis=axis))
    place, operands = only(places), {}
    for i, rank in zip(factors, ranks, strict=True):
        axis = place.axis - wide + rank - 2
        if place.axis < wide and axis >= 0 and not v.carries(i):
            operands[i] = replace(place, axis=axis)
    return [v.everywhere(place, operands)]


@passage("Gemm")
def _gemm(v: Visit) -> list[Passage]:
    v.only(0, 1, 2)
    rows = (int(bool(v.attribute("transA", 0))), 1 - int(bool(v.attribute("transB", 0))))  # axes that are not summed
    places = set()
    for i in v.carrying:
        if i < 2 and v.place(i).axis != rows[i]:
            raise NoPlaceError("sums over the batch")
        places.add(replace(v.place(i), axis=i if i < 2 else v.place(2).axis + 2 - len(v.shape(2))))
    place = only(places)
    own = place.axis - 2 + len(v.shape(2)) if v.has(2) else -1
    if v.carries(2) and v.shape(2)[own] != v.after[place.axis]:
        raise NoPlaceError("repeats the images of the batch")
    return [v.everywhere(place, {2: replace(place, axis=own)} if own >= 0 and not v.carries(2) else {})]


@passage("Einsum")
def _einsum(v: Visit) -> list[Passage]:
    equation = read_equation(v.attribute("equation"), [len(v.shape(i)) for i in range(len(v.node.inputs))])
    letters, result = dict(enumerate(equation.operands)), equation.result
    letter, *others = {letters[i][v.place(i).axis] for i in v.carrying}
    place = only(replace(v.place(i), axis=0) for i in v.carrying)
    if others or any(t.count(letter) > 1 for t in letters.values()):
        raise NoPlaceError("joins images of one place with those of another")
    if letter not in result:
        raise NoPlaceError("sums over the batch")
    after = replace(place, axis=result.index(letter))
    if any(v.shape(i)[v.place(i).axis] != v.after[after.axis] for i in v.carrying):
        raise NoPlaceError("repeats the images of the batch")
    operands = {i: replace(place, axis=t.index(letter)) for i, t in letters.items() if letter in t and not v.carries(i)}
    return [v.everywhere(after, operands, broadcasts=False)]


@passage("ReverseSequence")
def _reverse_sequence(v: Visit) -> list[Passage]:
    v.only(0, 1)
    rows = v.attribute("batch_axis", 1) % len(v.before)
    place = only([*([v.place(0)] if v.carries(0) else []), *([replace(v.place(1), axis=rows)] if v.carries(1) else [])])
    if place.axis == v.attribute("time_axis", 0) % len(v.before):
        raise NoPlaceError("takes the images of the batch for steps in time")
    operands = {0: place, 1: replace(place, axis=0)} if place.axis == rows else {0: place}
    return [v.everywhere(place, {i: p for i, p in operands.items() if not v.carries(i)}, broadcasts=False)]


@passage("DFT")
def _dft(v: Visit) -> list[Passage]:
    v.only(0)
    rank = len(v.before)
    assert v.node.graph is not None
    usual = 1 if v.node.graph.opset_imports.get("", 20) < 20 else -2
    axis = v.constant(2) if v.has(2) else v.attribute("axis", usual)
    if axis is None:
        raise NoPlaceError("works along axes that are no constants")
    if v.place(0).axis in (int(axis) % rank, rank - 1):
        raise NoPlaceError(NOT_ONE_BY_ONE)
    return [v.everywhere(v.place(0))]


@passage("OneHot")
def _one_hot(v: Visit) -> list[Passage]:
    v.only(0)
    place, new = v.place(0), v.attribute("axis", -1) % len(v.after)
    return [v.everywhere(replace(place, axis=place.axis + (place.axis >= new)))]


@passage("Det")
def _det(v: Visit) -> list[Passage]:
    if v.place(0).axis >= len(v.before) - 2:
        raise NoPlaceError(NOT_ONE_BY_ONE)
    return [v.everywhere(v.place(0))]


# Operators that need nothing but the indices of the inputs that hold images.
passage(*POINTWISE)(lambda v: _broadcast(v, range(len(v.node.inputs))))
passage("QuickGelu", "BiasGelu", "FastGelu", "Gelu", domain=CONTRIB)(PASSAGES["", "Gelu"])
passage("QLinearAdd", "QLinearMul", domain=CONTRIB)(lambda v: _broadcast(v, (0, 3)))
passage("QLinearLeakyRelu", "QLinearSigmoid", domain=CONTRIB)(lambda v: _broadcast(v, (0,)))
passage("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=CONTRIB)(
    lambda v: _broadcast(v, (0, 1), end=1)
)
passage("Trilu")(lambda v: _broadcast(v, (0,), end=2))
passage("MatMul", "MatMulInteger")(lambda v: _product(v, (0, 1)))
passage("DynamicQuantizeMatMul", "MatMulIntegerToFloat", domain=CONTRIB)(lambda v: _product(v, (0, 1)))
passage("QLinearMatMul")(lambda v: _product(v, (0, 3)))
passage("STFT")(lambda v: [v.stacked(FRONT, [0])])
passage("GridSample")(lambda v: [v.stacked(FRONT, [0, 1])])
passage("DeformConv")(lambda v: [v.stacked(FRONT, [0, 2, 4])])
passage("FusedConv", domain=CONTRIB)(lambda v: [v.stacked(FRONT, [0, 3])])
