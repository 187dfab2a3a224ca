"""onnxruntime's layout of channels in blocks (domain com.microsoft.nchwc), brought back to plain N x C x H x W.

A file that onnxruntime saved with all its optimizations has tensors whose channels are filled up to whole blocks, and
filters in the order of these blocks: (M / B, C / B, kH, kW, B of C, B of M), or (M / B, C, kH, kW, B of M) where the
input is plain or each channel has its own filter. How many channels B a block holds depends on the machine.
"""

from functools import cache

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.errors import ModelError
from fusioncam.export.gradient.tape import Ops
from fusioncam.export.lowering.axes import channels_first, channels_last
from fusioncam.export.lowering.contrib import CONTRIB, OF_FUSION, activated, numbers_of
from fusioncam.export.lowering.table import Call, lowering
from fusioncam.export.sessions import open_session
from fusioncam.kernels.arrays import Array

BLOCKED = "com.microsoft.nchwc"
CHANNELS = "channels"  # in the `meta` of a tensor that was blocked: how many it has without filling
FILL = "fills up blocks"  # in the `meta` of a graph
MOST = 64
# Operators of ONNX's own that onnxruntime leaves between those of this layout.
ON_ELEMENTS = (
    "Add",
    "Clip",
    "Concat",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "LeakyRelu",
    "Mul",
    "Relu",
    "Sigmoid",
    "Sum",
    "Tanh",
)


@cache
def block_size() -> int:
    """Return how many channels a block holds on this machine, as onnxruntime orders them.

    Raises:
        ModelError: onnxruntime has no such layout here.
    """
    node = onnx.helper.make_node("ReorderInput", ["x"], ["y"], domain=BLOCKED)
    shape = [1, MOST, 1, 2]
    x, y = (onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("x", "y"))
    domains = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid(BLOCKED, 1)]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "probe", [x], [y]), opset_imports=domains, ir_version=8
    )
    opened = open_session(model.SerializeToString())
    ordered = opened.run(None, {"x": np.arange(2 * MOST, dtype=np.float32).reshape(shape)})[0].ravel()
    return int(np.flatnonzero(ordered == 1)[0])  # the second pixel of the first channel follows a whole block


def _refuse(call: Call, why: str) -> ModelError:
    name = call.node.name or call.node.outputs[0].name
    return ModelError(
        f"node {name!r} ({BLOCKED}.{call.node.op_type}) {why}; save the model at "
        "a lower optimization level (ORT_ENABLE_EXTENDED), or give the model that it was made from"
    )


def reordered(graph: ir.Graph) -> set[str]:
    """Return the names of the tensors of a graph that were blocked: they have another order of elements now."""
    if not any(CHANNELS in o.meta for node in graph for o in node.outputs):
        return set()
    return {str(o.name) for node in graph for o in node.outputs if _count(o) is not None}


def infer_channels(model: ir.Model) -> None:
    """Infer the shapes of a model that has this layout still: an operator waits for the channels of its input.

    Raises:
        ModelError: onnxruntime has no such layout here.
    """
    if any(node.domain == BLOCKED for node in model.graph):
        model.graph.sort()
        passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(model)


def must_fill(model: ir.Model) -> bool:
    """Tell whether operators of this layout are left, and let them fill up tensors of unknown channels from now on.

    Raises:
        ModelError: They could do so already.
    """
    left = next((node for node in model.graph.all_nodes() if node.domain == BLOCKED), None)
    if left is not None and FILL in model.graph.meta:
        raise _refuse(Call(Ops(model.graph, "blocked"), left), "cannot be written in plain channels")
    model.graph.meta[FILL] = True
    return left is not None


def _waits(call: Call) -> bool:
    """Tell whether an input of a node is in blocks still."""
    producers = (v.producer() for v in call.node.inputs if v is not None)
    return any(_in_blocks(node) for node in producers if node is not None)


def _in_blocks(node: ir.Node) -> bool:
    """Tell whether a node's output is in blocks: by an operator of this layout, or by one on the elements of such."""
    if node.domain == BLOCKED:
        return node.op_type != "ReorderOutput"
    if (node.domain and node.domain != CONTRIB) or node.op_type not in ON_ELEMENTS:
        return False
    return any(_in_blocks(p) for v in node.inputs if v is not None and (p := v.producer()) is not None)


def _filters(call: Call, plain: bool) -> Array:
    """Return the filters of a convolution as (M, C, kH, kW), whole blocks still."""
    stored = call.constant(1)
    if stored is None:
        raise _refuse(call, "has filters that are computed")
    size = block_size()
    m, c, *kernel = stored.shape
    if m % size:
        raise _refuse(call, f"has {m} filters, no multiple of this machine's blocks of {size}")
    if plain or c == 1:
        return stored.reshape(m // size, c, *kernel, size).transpose(0, 4, 1, 2, 3).reshape(stored.shape)
    if c % size:
        raise _refuse(call, f"has filters of {c} channels, no multiple of this machine's blocks of {size}")
    ordered = stored.reshape(m // size, c // size, *kernel, size, size).transpose(0, 5, 1, 4, 2, 3)
    return np.ascontiguousarray(ordered).reshape(stored.shape)


def _count(value: ir.Value | None) -> int | None:
    """Return how many channels a tensor has that was blocked, also behind elementwise operators; else None."""
    node = None if value is None else value.producer()
    if value is None or CHANNELS in value.meta or node is None or node.domain or node.op_type not in ON_ELEMENTS:
        return None if value is None else value.meta.get(CHANNELS)
    counts = [c for c in map(_count, node.inputs) if c is not None]
    return (sum(counts) if node.op_type == "Concat" else max(counts)) if counts else None


def _only_blocked(value: ir.Value) -> bool:
    """Tell whether only operators of this layout read a tensor, which know how many channels count."""
    return not value.is_graph_output() and all(use.node.domain == BLOCKED for use in value.uses())


def _of(value: ir.Value, channels: int | None) -> ir.Value:
    value.meta[CHANNELS] = channels
    return value


def _filled(call: Call, x: ir.Value, channels: int) -> ir.Value:
    """Return a tensor with so many channels: those that its filters leave empty are zero."""
    count, op = _count(x), call.op
    if count is not None and count < channels:
        return op.Pad(x, op.ints([0, 0, 0, 0, 0, channels - count, 0, 0]))
    return x if count == channels else op.Slice(x, op.ints([0]), op.ints([channels]), op.ints([1]))


@lowering("Conv", domain=BLOCKED)
def _convolution(call: Call) -> ir.Value | None:
    if _waits(call):
        return None
    x, groups, op = call.input(0), call.attribute("group", 1), call.op
    count, w, bias = _count(x), _filters(call, plain=_count(x) is None), call.constant(2)
    if call.has(2) and bias is None:
        raise _refuse(call, "has a bias that is computed")
    if groups > 1 and w.shape[1] == 1:
        kept = groups = count or groups
    else:
        full = np.any(w.reshape(len(w), -1), axis=1) | (np.zeros(len(w), bool) if bias is None else bias != 0)
        kept = int(np.flatnonzero(full).max(initial=0)) + 1
        w = w[:, :count] if groups == 1 else w
    kept = max(kept, (_count(call.input(3)) or 0) if call.has(3) else 0)
    if (groups > 1 and kept % groups) or not _only_blocked(call.node.outputs[0]):
        kept = len(w)
    given = [op.constant(w[:kept]), *([] if bias is None else [op.constant(bias[:kept])])]
    y = op.Conv(x, *given, **{**call.others(*OF_FUSION), "group": groups})
    y = op.Add(y, _filled(call, call.input(3), kept)) if call.has(3) else y
    done = activated(call, y, call.attribute("activation"), numbers_of(call))
    if done is None:
        raise _refuse(call, f"has the activation {call.attribute('activation')}")
    return _of(done, kept)


@lowering("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", domain=BLOCKED)
def _pool(call: Call) -> ir.Value | None:
    if _waits(call):
        return None
    y: ir.Value = getattr(call.op, call.node.op_type)(call.input(0), **call.others("storage_order"))
    return _of(y, _count(call.input(0)))


@lowering("Upsample", domain=BLOCKED)
def _upsample(call: Call) -> ir.Value | None:
    if _waits(call):
        return None
    scales = call.op.constant(call.attribute("scales"), np.float32)
    y = call.op.Resize(call.input(0), None, scales, **call.others("scales"), nearest_mode="floor")
    return _of(y, _count(call.input(0)))


@lowering("ReorderInput", domain=BLOCKED)
def _to_blocks(call: Call) -> ir.Value | None:
    last, shape = call.attribute("channels_last", 0), call.input(0).shape
    channels = None if shape is None else shape[-1 if last else 1]
    if not isinstance(channels, int):
        return _filled_up(call) if call.node.graph is not None and FILL in call.node.graph.meta and not last else None
    x = channels_first(call.op, call.input(0)) if last else call.op.Identity(call.input(0))
    return _of(x, channels)


def _filled_up(call: Call) -> ir.Value | None:
    """Return a tensor of unknown channels with as many as the filters have that read it; the others are zero."""
    op, users = call.op, [use.node for use in call.node.outputs[0].uses() if use.node.op_type == "Conv"]
    filters = [ir.convenience.get_const_tensor(node.inputs[1]) for node in users if node.inputs[1] is not None]
    sizes = {f.shape.numpy()[0 if f.shape.numpy()[1] == 1 else 1] for f in filters if f is not None}
    if len(sizes) != 1:
        return None
    channels = sizes.pop()
    missing = op.Sub(op.ints([channels]), op.Shape(call.input(0), start=1, end=2))
    return _of(op.Pad(call.input(0), op.Concat(op.ints([0] * 5), missing, op.ints([0, 0]), axis=0)), channels)


@lowering("ReorderOutput", domain=BLOCKED)
def _from_blocks(call: Call) -> ir.Value | None:
    if _waits(call):
        return None
    y = _filled(call, call.input(0), call.attribute("channels"))
    return channels_last(call.op, y) if call.attribute("channels_last", 0) else y
