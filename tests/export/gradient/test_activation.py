import numpy as np
import torch
import torch.nn.functional as fn

X = ("N", 3, 5, 4)
HALF = {"dtype": np.float16}


def positive(x):
    return np.abs(x) + 0.1


def whole(x):
    """Whole numbers from -9 to 9 or so: many lie on the kinks at -3, 0, 1, 3 and 6."""
    return np.round(3 * x)


def wide(x):
    return 60 * x


def inside(x):
    return np.tanh(x)


def above_one(x):
    return 1.1 + np.abs(x)


def huge(x):
    return 300 * x


def clip_bound(name, wrt, floor):
    """A Clip by its bounds: x is added to the lower, v to the upper one."""
    text = f"""agraph (float x, float v, float[3,5] a) => (float[3,5] y) <float low = {{{floor}}}, float high = {{0.3}}>
    {{p = Add(x, low) q = Add(v, high) y = Clip(a, p, q)}}"""
    function = lambda x, v, a: torch.minimum(torch.maximum(a, x + floor), v + 0.3)  # noqa: E731
    return f"clip-bound-{name}", text, {}, None, function, {"wrt": wrt, "at": lambda x: x if x.ndim else 0.1 * x}


CASES = [
    ("abs", "Abs", {}, [X], torch.abs),
    ("abs-at-0", "Abs", {}, [X], torch.abs, {"at": whole}),
    ("acos", "Acos", {}, [X], torch.acos, {"at": inside}),
    ("acosh", "Acosh", {}, [X], torch.acosh, {"at": above_one}),
    ("asin", "Asin", {}, [X], torch.asin, {"at": inside}),
    ("asinh", "Asinh", {}, [X], torch.asinh),
    ("atan", "Atan", {}, [X], torch.atan, {"at": wide}),
    ("atanh", "Atanh", {}, [X], torch.atanh, {"at": inside}),
    ("cosh", "Cosh", {}, [X], torch.cosh),
    ("sinh", "Sinh", {}, [X], torch.sinh),
    ("tan", "Tan", {}, [X], torch.tan),
    ("cos", "Cos", {}, [X], torch.cos),
    ("erf", "Erf", {}, [X], torch.erf),
    ("exp", "Exp", {}, [X], torch.exp),
    ("log", "Log", {}, [X], torch.log, {"at": positive}),
    (  # onnxruntime removes the product with one, and lost what is divided with it
        "log-and-nothing",
        "agraph (float[N,4] x) => (float[N,4] y) <float one = {1}> {z = Log(x) m = Mul(z, one) y = Tanh(m)}",
        *({}, None, lambda x: x.log().tanh(), {"at": positive}),
    ),
    ("mish", "Mish", {}, [X], fn.mish),
    ("mish-wide", "Mish", {}, [X], fn.mish, {"at": wide}),
    ("reciprocal", "Reciprocal", {}, [X], torch.reciprocal, {"at": positive}),
    ("sigmoid", "Sigmoid", {}, [X], torch.sigmoid),
    ("sigmoid-wide", "Sigmoid", {}, [X], torch.sigmoid, {"at": wide}),
    ("sin", "Sin", {}, [X], torch.sin),
    ("softplus", "Softplus", {}, [X], fn.softplus),
    ("softplus-wide", "Softplus", {}, [X], fn.softplus, {"at": wide}),
    ("softsign", "Softsign", {}, [X], fn.softsign),
    ("sqrt", "Sqrt", {}, [X], torch.sqrt, {"at": positive}),
    ("tanh", "Tanh", {}, [X], torch.tanh),
    ("relu", "Relu", {}, [X], torch.relu),
    ("relu-at-0", "Relu", {}, [X], torch.relu, {"at": whole}),
    ("thresholded-relu", "ThresholdedRelu", {}, [X], lambda x: fn.threshold(x, 1.0, 0.0), {"at": whole}),
    ("thresholded-relu-alpha", "ThresholdedRelu", {"alpha": 0.3}, [X], lambda x: fn.threshold(x, 0.3, 0.0)),
    ("leaky-relu", "LeakyRelu", {}, [X], fn.leaky_relu, {"at": whole}),
    ("leaky-relu-alpha", "LeakyRelu", {"alpha": 0.2}, [X], lambda x: fn.leaky_relu(x, 0.2)),
    ("leaky-relu-negative", "LeakyRelu", {"alpha": -0.2}, [X], lambda x: fn.leaky_relu(x, -0.2)),
    ("prelu", "PRelu", {}, [X, (3, 1, 1)], lambda x, a: torch.where(x > 0, x, a * x), {"at": whole}),
    ("prelu-scalar", "PRelu", {}, [X, (1,)], lambda x, a: fn.prelu(x, a)),
    ("prelu-slope", "PRelu", {}, [X, ("N", 1, 1, 4)], lambda x, a: torch.where(x > 0, x, a * x), {"wrt": 1}),
    ("elu", "Elu", {}, [X], fn.elu),
    ("elu-alpha", "Elu", {"alpha": 0.7}, [X], lambda x: fn.elu(x, 0.7), {"at": whole}),
    ("elu-negative", "Elu", {"alpha": -0.7}, [X], lambda x: torch.where(x > 0, x, -0.7 * x.expm1())),
    ("celu", "Celu", {"alpha": 2.0}, [X], lambda x: fn.celu(x, 2.0), {"at": whole}),
    ("celu-default", "Celu", {}, [X], fn.celu),
    ("selu", "Selu", {}, [X], fn.selu, {"at": whole}),
    ("selu-alpha", "Selu", {"alpha": 1.2, "gamma": 0.6}, [X], lambda x: 0.6 * fn.elu(x, 1.2)),
    ("clip", "Clip", {}, [X, -0.5, 0.8], lambda x, *_: x.clamp(-0.5, 0.8)),
    ("clip-at-bounds", "Clip", {}, [X, 0.0, 6.0], lambda x, *_: fn.relu6(x), {"at": whole}),
    ("clip-low", "Clip", {}, [X, -0.5], lambda x, _: x.clamp(min=-0.5)),
    ("clip-high", "Clip", {}, [X, None, 0.8], lambda x, _: x.clamp(max=0.8)),
    ("clip-none", "Clip", {}, [X], lambda x: 1 * x),
    *(clip_bound(name, wrt, floor) for name, wrt, floor in (("low", 0, -0.5), ("high", 1, -0.5), ("none", 1, 9.0))),
    clip_bound("below", 0, 9.0),
    (
        "clip-one-bound",
        "agraph (float x, float[3,5] a) => (float[3,5] y) {y = Clip(a, x)}",
        *({}, None, lambda x, a: torch.maximum(a, x)),
    ),
    ("shrink", "Shrink", {"lambd": 0.4, "bias": 0.3}, [X], lambda x: torch.where(x.abs() > 0.4, x - 0.3 * x.sign(), 0)),
    ("hardmax", "Hardmax", {"axis": 1}, [X], lambda x: fn.one_hot(x.argmax(1), 3).movedim(-1, 1).to(x) + 0 * x),
    ("hard-sigmoid", "HardSigmoid", {}, [X], lambda x: (0.2 * x + 0.5).clamp(0, 1)),
    ("hard-sigmoid-sixth", "HardSigmoid", {"alpha": 1 / 6}, [X], fn.hardsigmoid, {"at": lambda x: 3 * x}),
    ("hard-sigmoid-kinks", "HardSigmoid", {"alpha": 0.5}, [X], lambda x: fn.hardsigmoid(3 * x), {"at": np.round}),
    ("hard-swish", "HardSwish", {}, [X], fn.hardswish, {"at": lambda x: 3 * x}),
    ("hard-swish-kinks", "HardSwish", {}, [X], fn.hardswish, {"at": whole}),
    ("gelu", "Gelu", {}, [X], fn.gelu, {"opset": 20}),
    ("gelu-wide", "Gelu", {}, [X], fn.gelu, {"opset": 20, "at": wide}),
    ("gelu-tanh", "Gelu", {"approximate": "tanh"}, [X], lambda x: fn.gelu(x, approximate="tanh"), {"opset": 20}),
    ("selu-falling", "Selu", {"alpha": 1.2, "gamma": -0.6}, [X], lambda x: -0.6 * fn.elu(x, 1.2)),
    ("softmax", "Softmax", {}, [X], lambda x: x.softmax(-1)),
    ("softmax-1", "Softmax", {"axis": 1}, [X], lambda x: x.softmax(1)),
    ("softmax-minus-2", "Softmax", {"axis": -2}, [X], lambda x: x.softmax(-2)),
    (
        "softmax-of-masked-rows",
        "agraph (float[N,3,5] x) => (float[N,3,5] y) <float low = {-inf}, float zero = {0}, bool[3,1] seen = {1,0,1}>"
        "{m = Where(seen, x, low) p = Softmax(m) b = Cast<to = 1>(p) y = Where(seen, b, zero)}",
        *({}, None, lambda x: x.softmax(-1) * torch.tensor([[1], [0], [1]])),
    ),
    ("softmax-wide", "Softmax", {}, [X], lambda x: x.softmax(-1), {"at": wide}),
    ("log-softmax", "LogSoftmax", {}, [X], lambda x: x.log_softmax(-1)),
    ("log-softmax-1", "LogSoftmax", {"axis": 1}, [X], lambda x: x.log_softmax(1)),
    ("half-relu", "Relu", {}, [X], torch.relu, HALF),
    ("half-sigmoid", "Sigmoid", {}, [X], torch.sigmoid, HALF),
    ("half-clip", "Clip", {}, [X, 0.0, 6.0], lambda x, *_: fn.relu6(x), {**HALF, "at": whole}),
    ("half-elu", "Elu", {}, [X], fn.elu, {**HALF, "at": wide}),
    ("half-hard-swish", "HardSwish", {}, [X], fn.hardswish, {**HALF, "at": lambda x: 3 * x}),
    ("half-softmax", "Softmax", {"axis": 1}, [X], lambda x: x.softmax(1), HALF),
    ("half-gelu", "Gelu", {}, [X], fn.gelu, {**HALF, "opset": 20, "at": huge}),
    (
        *("half-gelu-tanh", "Gelu", {"approximate": "tanh"}, [X], lambda x: fn.gelu(x, approximate="tanh")),
        {**HALF, "opset": 20, "at": huge},
    ),
    ("swish", "Swish", {"alpha": 1.7}, [X], lambda x: x * torch.sigmoid(1.7 * x), {"opset": 24}),
]


def test_gradient(case, check):
    check(*case)
