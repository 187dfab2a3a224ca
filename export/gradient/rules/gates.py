"""Activation functions of recurrent operators, and their slopes by the rules of ONNX's own activations."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import RULES, Step
from fusioncam.export.gradient.tape import Ops

# By the name in lower case, as onnxruntime reads it: the operator, and the parameters that the function takes.
# ScaledTanh is alpha tanh(beta x), Affine is alpha x + beta.
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{name.lower(): (name, ()) for name in ("Relu", "Tanh", "Sigmoid", "Softsign", "Softplus")},
    **{name.lower(): (name, ("alpha",)) for name in ("LeakyRelu", "ThresholdedRelu", "Elu")},
    "hardsigmoid": ("HardSigmoid", ("alpha", "beta")),
    "scaledtanh": ("Tanh", ("alpha", "beta")),
    "affine": ("Identity", ("alpha", "beta")),
}

# Gates are saturated more often than not, and there 1 - y^2 and y (1 - y) keep no digit. With e = exp(-k |x|) the
# slopes are k^2 e / (1 + e)^2.
STEEPNESS = {"Tanh": 2.0, "Sigmoid": 1.0}


@dataclass(frozen=True)
class Gate:
    """A gate of a recurrent operator, behind its activation function.

    Attributes:
        op: Appends nodes.
        y: Its output.
        chain: The nodes on the way from its input to its output that have a slope.
        factor: What that slope is multiplied with.
    """

    op: Ops
    y: ir.Value
    chain: Sequence[ir.Node]
    factor: float

    def back(self, dy: ir.Value) -> ir.Value:
        """Return the gradient of the input of the gate, given that of its output."""
        for node in reversed(self.chain):
            if node.op_type in STEEPNESS:
                dy = self.op.Mul(dy, self._slope(node))
                continue
            gradient = RULES["", node.op_type].gradient(Step(self.op, node, [dy], 0))
            assert gradient is not None
            dy = gradient
        return dy if self.factor == 1 else self.op.Mul(dy, self.op.like(self.factor, self.y))

    def _slope(self, node: ir.Node) -> ir.Value:
        op, x, k = self.op, node.inputs[0], STEEPNESS[node.op_type]
        assert x is not None
        e = op.Exp(op.Mul(op.Abs(x), op.like(-k, self.y)))
        beyond = op.Add(e, op.like(1, self.y))
        share = op.Div(e, op.Mul(beyond, beyond))
        return share if k == 1 else op.Mul(share, op.like(k * k, self.y))


@dataclass(frozen=True)
class Activation:
    """An activation function with its parameters: scale f(inner x) + shift, after x is clipped.

    Attributes:
        operator: ONNX's operator for f.
        attributes: Its attributes.
        inner: A factor of x.
        scale: A factor of f.
        shift: What is added.
        clip: The largest magnitude of x that counts, or None.
    """

    operator: str
    attributes: dict[str, float] = field(default_factory=dict)
    inner: float = 1.0
    scale: float = 1.0
    shift: float = 0.0
    clip: float | None = None

    def __call__(self, op: Ops, x: ir.Value, dtype: ir.DataType) -> Gate:
        """Append the function of `x`, of element type `dtype`, and return the gate."""
        chain: list[ir.Node] = []

        def link(value: ir.Value) -> ir.Value:
            node = value.producer()
            assert node is not None
            chain.append(node)
            value.dtype = dtype
            return value

        x.dtype = dtype
        if self.clip is not None:
            x = link(op.Clip(x, op.like(-self.clip, x), op.like(self.clip, x)))
        if self.inner != 1:
            x = op.Mul(x, op.like(self.inner, x))
            x.dtype = dtype
        y = plain = link(getattr(op, self.operator)(x, **self.attributes))
        if self.scale != 1:
            y = op.Mul(y, op.like(self.scale, plain))
        if self.shift:
            y = op.Add(y, op.like(self.shift, plain))
        y.dtype = dtype
        return Gate(op, y, chain, self.inner * self.scale)


def activations(
    names: Sequence[str], alphas: Iterable[float], betas: Iterable[float], clip: float | None
) -> list[Activation]:
    """Return the functions of some names; parameters are for those functions that take any, in order.

    Raises:
        NotImplementedError: A function is unknown, or lacks a parameter that has no default.
    """
    found, left = [], {"alpha": iter(alphas), "beta": iter(betas)}
    for name in names:
        if name.lower() not in FUNCTIONS:
            raise NotImplementedError(f"the activation {name!r}")
        operator, taken = FUNCTIONS[name.lower()]
        given = {k: next(left[k], None) for k in taken}
        known = {k: v for k, v in given.items() if v is not None}
        if name.lower() not in ("scaledtanh", "affine"):
            found.append(Activation(operator, known, clip=clip))
            continue
        if len(known) < len(taken):
            raise NotImplementedError(f"the activation {name!r} without alpha or beta")
        alpha, beta = known["alpha"], known["beta"]
        moved = {"inner": beta} if operator == "Tanh" else {"shift": beta}
        found.append(Activation(operator, {}, scale=alpha, clip=clip, **moved))
    return found
