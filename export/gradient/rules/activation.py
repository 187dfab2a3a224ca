"""Activation functions and other functions of one variable."""

import math
from collections.abc import Callable

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule, rules

# The derivative of each function, in terms of its input x or its output y. The output is preferred where it serves:
# reading the input would keep onnxruntime from fusing the activation into the convolution before it.
DERIVATIVES: dict[str, Callable[[Step], ir.Value]] = {
    "Abs": lambda s: s.op.Sign(s.x),
    "Cos": lambda s: s.op.Neg(s.op.Sin(s.x)),
    "Cosh": lambda s: s.op.Sinh(s.x),
    "Erf": lambda s: s.op.Mul(s.like(2 / math.sqrt(math.pi)), s.op.Exp(s.op.Neg(s.op.Mul(s.x, s.x)))),
    "Exp": lambda s: s.y,
    "Mish": lambda s: _mish(s),
    "Reciprocal": lambda s: s.op.Neg(s.op.Mul(s.y, s.y)),
    "Sigmoid": lambda s: s.op.Mul(s.y, s.op.Sub(s.like(1), s.y)),
    "Sin": lambda s: s.op.Cos(s.x),
    "Sinh": lambda s: s.op.Cosh(s.x),
    "Softplus": lambda s: s.op.Sigmoid(s.x),
    "Softsign": lambda s: _square(s, s.op.Sub(s.like(1), s.op.Abs(s.y))),
    "Sqrt": lambda s: s.op.Div(s.like(0.5), s.y),
    "Tan": lambda s: s.op.Add(s.like(1), _square(s, s.y)),
    "Tanh": lambda s: s.op.Sub(s.like(1), s.op.Mul(s.y, s.y)),
}

# Of other functions of one variable, what the gradient is divided by. It is not multiplied by one over it: where it
# comes from a node that does nothing, onnxruntime's DivMulFusion loses it.
DIVISORS: dict[str, Callable[[Step], ir.Value]] = {
    "Acos": lambda s: s.op.Neg(s.op.Sqrt(s.op.Sub(s.like(1), _square(s, s.x)))),
    "Acosh": lambda s: s.op.Sqrt(s.op.Sub(_square(s, s.x), s.like(1))),
    "Asin": lambda s: s.op.Sqrt(s.op.Sub(s.like(1), _square(s, s.x))),
    "Asinh": lambda s: s.op.Sqrt(s.op.Add(s.like(1), _square(s, s.x))),
    "Atan": lambda s: s.op.Add(s.like(1), _square(s, s.x)),
    "Atanh": lambda s: s.op.Sub(s.like(1), _square(s, s.x)),
    "Log": lambda s: s.x,
}


@rule(*DERIVATIVES)
def _by_derivative(s: Step) -> ir.Value:
    return s.op.Mul(s.dy, DERIVATIVES[s.node.op_type](s))


@rule(*DIVISORS)
def _by_divisor(s: Step) -> ir.Value:
    return s.op.Div(s.dy, DIVISORS[s.node.op_type](s))


def _square(s: Step, value: ir.Value) -> ir.Value:
    return s.op.Mul(value, value)


def _mish(s: Step) -> ir.Value:
    t = s.op.Tanh(s.op.Softplus(s.x))
    slope = s.op.Mul(s.op.Sub(s.like(1), s.op.Mul(t, t)), s.op.Sigmoid(s.x))
    return s.op.Add(t, s.op.Mul(s.x, slope))


def _positive(s: Step, alpha: float) -> ir.Value:
    """Return where x > 0, told from y unless a negative `alpha` turns the other half around."""
    return s.op.Greater(s.y if alpha >= 0 else s.x, s.like(0))


def _gate(s: Step, condition: ir.Value, otherwise: ir.Value | None = None) -> ir.Value:
    """Return the gradient where `condition` holds, else `otherwise` (zero)."""
    return s.op.Where(condition, s.dy, s.like(0) if otherwise is None else otherwise)


rules(
    {
        "Relu": lambda s: _gate(s, s.op.Greater(s.y, s.like(0))),
        "Shrink": lambda s: _gate(s, s.op.Greater(s.op.Abs(s.x), s.like(s.attribute("lambd", 0.5)))),
        "ThresholdedRelu": lambda s: _gate(s, s.op.Greater(s.x, s.like(s.attribute("alpha", 1.0)))),
    }
)


@rule("LeakyRelu")
def _leaky_relu(s: Step) -> ir.Value:
    alpha = s.attribute("alpha", 0.01)
    return _gate(s, _positive(s, alpha), s.op.Mul(s.dy, s.like(alpha)))


@rule("PRelu", broadcasts=True, every_input=True)
def _prelu(s: Step) -> ir.Value:
    positive = s.op.Greater(s.input(0), s.like(0))
    if s.index == 0:
        return _gate(s, positive, s.op.Mul(s.dy, s.input(1)))
    return s.op.Where(positive, s.like(0), s.op.Mul(s.dy, s.input(0)))


@rule("Elu", "Celu", "Selu")
def _elu(s: Step) -> ir.Value:
    # All three are scale * x for x > 0, else floor * (exp(x / width) - 1), whose slope is (y + floor) / width.
    kind = s.node.op_type
    alpha = s.attribute("alpha", 1.6732632423543772 if kind == "Selu" else 1.0)
    scale = s.attribute("gamma", 1.0507009873554805) if kind == "Selu" else 1.0
    slope = s.op.Add(s.y, s.like(scale * alpha))
    if kind == "Celu":
        slope = s.op.Div(slope, s.like(alpha))
    return s.op.Mul(s.dy, s.op.Where(_positive(s, min(alpha, scale)), s.like(scale), slope))


@rule("Clip", broadcasts=True, every_input=True)
def _clip(s: Step) -> ir.Value:
    if s.index:
        return _clip_bound(s)
    # Strictly inside, as torch's ReLU6 has it: on the bounds the gradient is zero.
    bounds = ((1, s.op.Greater), (2, s.op.Less))
    inside = [compare(s.y, _bound(s, i)) for i, compare in bounds if s.has(i)]
    if not inside:
        return s.dy
    return _gate(s, inside[0] if len(inside) == 1 else s.op.And(*inside))


def _clip_bound(s: Step) -> ir.Value:
    # Where the lower bound exceeds the upper one, the upper one is the result.
    op, x, other = s.op, s.input(0), 3 - s.index
    beyond = op.Less(x, s.x) if s.index == 1 else op.Greater(x, s.x)
    if not s.has(other):
        return _gate(s, beyond)
    in_order = op.Less(s.input(1), s.input(2))
    return _gate(s, op.And(beyond, in_order) if s.index == 1 else op.Or(beyond, op.Not(in_order)))


def _bound(s: Step, i: int) -> ir.Value:
    # QNN's Clip wants bounds that no other node reads, and some files have a bound of shape (1,).
    known = s.constant(i)
    return s.input(i) if known is None else s.like(known.reshape(()))


@rule("HardSigmoid")
def _hard_sigmoid(s: Step) -> ir.Value:
    inside = s.op.And(s.op.Greater(s.y, s.like(0)), s.op.Less(s.y, s.like(1)))
    return s.op.Mul(_gate(s, inside), s.like(s.attribute("alpha", 0.2)))


@rule("HardSwish")
def _hard_swish(s: Step) -> ir.Value:
    # x * clip(x / 6 + 1/2, 0, 1): slope 0 up to -3, x / 3 + 1/2 between, 1 from 3 on.
    slope = s.op.Add(s.op.Div(s.x, s.like(3)), s.like(0.5))
    slope = s.op.Where(s.op.Less(s.x, s.like(3)), slope, s.like(1))
    slope = s.op.Where(s.op.Greater(s.x, s.like(-3)), slope, s.like(0))
    return s.op.Mul(s.dy, slope)


@rule("Swish")
def _swish(s: Step) -> ir.Value:
    alpha = s.like(s.attribute("alpha", 1.0))
    sigmoid = s.op.Sigmoid(s.op.Mul(alpha, s.x))
    falling = s.op.Mul(s.op.Mul(alpha, s.y), s.op.Sub(s.like(1), sigmoid))
    return s.op.Mul(s.dy, s.op.Add(sigmoid, falling))


@rule("Gelu")
def _gelu(s: Step) -> ir.Value:
    op, x = s.op, s.x
    if s.attribute("approximate", "none") == "tanh":
        # From 10 on the slope is 0 or 1 to the last bit; in float16 the square of 256 is infinite already.
        x = op.Clip(x, s.like(-10), s.like(10))
        squared = op.Mul(x, x)
        c, cubic = math.sqrt(2 / math.pi), 0.044715
        inner = op.Mul(s.like(c), op.Mul(x, op.Add(s.like(1), op.Mul(s.like(cubic), squared))))
        t = op.Tanh(inner)
        rise = op.Mul(s.like(c), op.Add(s.like(1), op.Mul(s.like(3 * cubic), squared)))
        density = op.Mul(s.like(0.5), op.Mul(op.Sub(s.like(1), op.Mul(t, t)), rise))
    else:
        t = op.Erf(op.Mul(x, s.like(math.sqrt(0.5))))
        density = op.Mul(s.like(1 / math.sqrt(2 * math.pi)), op.Exp(op.Mul(s.like(-0.5), op.Mul(x, x))))
    share = op.Mul(s.like(0.5), op.Add(s.like(1), t))
    return op.Mul(s.dy, op.Add(share, op.Mul(x, density)))


@rule("Softmax")
def _softmax(s: Step) -> ir.Value:
    y = s.op.Where(s.op.IsNaN(s.y), s.like(0), s.y) if _replaced(s.y) else s.y
    weighted = s.op.Mul(s.dy, y)
    total = s.op.ReduceSum(weighted, s.op.ints([s.axis(-1)]), keepdims=1)
    return s.op.Sub(weighted, s.op.Mul(y, total))


def _replaced(value: ir.Value) -> bool:
    """Return whether the model replaces some elements of a tensor, as attention does with the NaN of a masked row."""
    users = [use.node for use in value.uses()]
    return any(n.op_type in ("IsNaN", "Where") or (n.op_type == "Cast" and _replaced(n.outputs[0])) for n in users)


@rule("LogSoftmax")
def _log_softmax(s: Step) -> ir.Value:
    total = s.op.ReduceSum(s.dy, s.op.ints([s.axis(-1)]), keepdims=1)
    return s.op.Sub(s.dy, s.op.Mul(s.op.Exp(s.y), total))
