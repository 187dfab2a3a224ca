"""Sound models of several kinds, small enough that a case takes a fraction of a second."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from fusioncam.runtime.demo import MODEL

TAIL = """
    pooled = GlobalAveragePool (last)
    flat = Flatten (pooled)
    logits = Gemm (flat, fw, fb)
"""
# By name: the opset, the body, whose image is `x` (N, 3, 24, 24) and whose result `logits`, and shapes of its weights.
BODIES: dict[str, tuple[int, str, dict[str, tuple[int, ...]]]] = {
    "plain": (
        17,
        """
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)
    last = Relu (a)
    pooled = GlobalAveragePool (last)
    flat = Flatten (pooled)
    scores = Gemm (flat, fw, fb)
    logits = Softmax (scores)
""",
        {"w": (8, 3, 3, 3), "b": (8,), "fw": (8, 4), "fb": (4,)},
    ),
    "residual": (
        18,
        """
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)
    n = BatchNormalization <epsilon = 0.001> (a, b, b, b, v)
    r = Relu (n)
    d = Conv <pads = [1, 1, 1, 1], group = 8> (r, dw)
    c = Clip (d, low, high)
    g = GlobalAveragePool (c)
    s = Conv (g, sw)
    h = Sigmoid (s)
    m = Mul (c, h)
    t = Add (m, r)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (t)
    q = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (t)
    last = Concat <axis = 1> (p, q)
"""
        + TAIL,
        {
            **{"w": (8, 3, 3, 3), "b": (8,), "v": (8,), "dw": (8, 1, 3, 3), "sw": (8, 8, 1, 1), "low": (), "high": ()},
            **{"fw": (16, 4), "fb": (4,)},
        },
    ),
    "tokens": (
        17,
        """
    a = Conv <strides = [4, 4], kernel_shape = [4, 4]> (x, w, b)
    f = Reshape (a, to_tokens)
    t = Transpose <perm = [0, 2, 1]> (f)
    n = LayerNormalization <axis = -1> (t, b, b)
    q = MatMul (n, wq)
    k = MatMul (n, wk)
    kt = Transpose <perm = [0, 2, 1]> (k)
    s = MatMul (q, kt)
    e = Softmax <axis = -1> (s)
    o = MatMul (e, n)
    y = Add (o, t)
    g = Erf (y)
    z = Mul (y, g)
    pooled = ReduceMean <axes = [1], keepdims = 0> (z)
    logits = Gemm (pooled, fw, fb)
""",
        {"w": (8, 3, 4, 4), "b": (8,), "wq": (8, 8), "wk": (8, 8), "fw": (8, 4), "fb": (4,)},
    ),
    "old": (
        8,
        """
    c = Conv <kernel_shape = [3, 3], auto_pad = "SAME_UPPER", strides = [2, 2]> (x, w, b)
    n = BatchNormalization <spatial = 1> (c, b, b, b, v)
    l = LeakyRelu <alpha = 0.1> (n)
    i = Pad <pads = [0, 0, 1, 1, 0, 0, 1, 1], mode = "reflect"> (l)
    k = Slice <axes = [2], starts = [1], ends = [9]> (i)
    last = Dropout <ratio = 0.5> (k)
"""
        + TAIL,
        {"w": (8, 3, 3, 3), "b": (8,), "v": (8,), "fw": (8, 4), "fb": (4,)},
    ),
    "quantised": (
        13,
        """
    xq = QuantizeLinear (x, scale, zero)
    xd = DequantizeLinear (xq, scale, zero)
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (xd, w, b)
    r = Relu (a)
    rq = QuantizeLinear (r, scale, zero)
    last = DequantizeLinear (rq, scale, zero)
"""
        + TAIL,
        {"w": (8, 3, 3, 3), "b": (8,), "scale": (), "fw": (8, 4), "fb": (4,)},
    ),
    "shapes": (
        17,
        """
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w, b)
    r = HardSwish (a)
    s = Shape (r)
    n = Gather <axis = 0> (s, first)
    o = Unsqueeze (n, first1)
    z = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (r, , scales)
    last = Tanh (z)
    pooled = ReduceMean <axes = [2, 3], keepdims = 1> (last)
    t = Concat <axis = 0> (o, minus)
    flat = Reshape (pooled, t)
    logits = Gemm (flat, fw, fb)
""",
        {"w": (8, 3, 3, 3), "b": (8,), "fw": (8, 4), "fb": (4,)},
    ),
}
CONSTANTS = {
    "to_tokens": np.array([0, 8, -1], np.int64),
    "zero": np.array(120, np.uint8),
    "first": np.array(0, np.int64),
    "first1": np.array([0], np.int64),
    "minus": np.array([-1], np.int64),
    "scales": np.array([1, 1, 2, 2], np.float32),
    "low": np.array(-6, np.float32),
    "high": np.array(6, np.float32),
    "scale": np.array(0.05, np.float32),
}


def _from_text(name: str) -> onnx.ModelProto:
    opset, body, shapes = BODIES[name]
    model = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]>\n{name} (float[N,3,24,24] x) => (float[N,4] logits)\n{{{body}}}'
    )
    rng = np.random.default_rng(5)
    arrays = {n: np.abs(rng.normal(size=shape)).astype(np.float32) / 4 for n, shape in shapes.items()} | CONSTANTS
    used = {i for node in model.graph.node for i in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items() if n in used)
    return model


def _with_if() -> onnx.ModelProto:
    """Two branches, of which a constant chooses one."""
    model = _from_text("plain")
    branches = [
        helper.make_graph([helper.make_node(op, ["a"], [f"of_{op}"])], op, [], [_float(f"of_{op}", ["N", 8, 12, 12])])
        for op in ("Relu", "Elu")
    ]
    chosen = helper.make_node("If", ["yes"], ["last"], then_branch=branches[0], else_branch=branches[1])
    model.graph.node[1].CopyFrom(chosen)
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    return model


def _with_function() -> onnx.ModelProto:
    """A function of the model's own in place of Relu."""
    model, opset = _from_text("plain"), [helper.make_opsetid("", 17)]
    nodes = [helper.make_node("Sigmoid", ["i"], ["s"]), helper.make_node("Mul", ["i", "s"], ["o"])]
    model.functions.append(helper.make_function("local", "Silu", ["i"], ["o"], nodes, opset))
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Silu", "local"
    return model


def _with_bytes() -> onnx.ModelProto:
    """Channels last, in bytes, with the preparation in the graph."""
    model = _from_text("plain")
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("u", TensorProto.UINT8, ["N", 24, 24, 3]))
    first = [
        helper.make_node("Cast", ["u"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["m"]),
        helper.make_node("Transpose", ["m"], ["x"], perm=[0, 3, 1, 2]),
    ]
    nodes = [*first, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(numpy_helper.from_array(CONSTANTS["scale"], "scale"))
    return model


def _float(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


SEEDS: dict[str, Callable[[], onnx.ModelProto]] = {
    **{name: (lambda name=name: _from_text(name)) for name in BODIES},  # type: ignore[misc]
    "if": _with_if,
    "function": _with_function,
    "bytes": _with_bytes,
    "built-in": lambda: onnx.load(MODEL),
}


def write_seeds(folder: Path) -> dict[str, Path]:
    """Write every sound model, by name; of one of them the weights lie in a file of their own."""
    written = {}
    for name, make in SEEDS.items():
        written[name] = folder / f"{name}.onnx"
        onnx.save(make(), written[name])
    written["apart"] = folder / "apart.onnx"
    onnx.save(
        _from_text("residual"), written["apart"], save_as_external_data=True, location="apart.bin", size_threshold=0
    )
    return written
