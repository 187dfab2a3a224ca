"""Ways from logits to outputs: each predicts outputs from a tensor, and makes logits of the tensor."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Ending

Make = Callable[[Ops, ir.Value], ir.Value]  # from a float32 tensor (N, numbers) to logits (N, numbers of the output)

LEAST = 1e-30  # of a probability whose logarithm is taken
MARGIN = 1e-6  # how near to 0 and 1 a probability may come whose logit is taken
STEEP = 4.0  # of a logit beyond that margin: its slope at one half, the least there is


class Reading(NamedTuple):
    """One way from logits to outputs.

    Attributes:
        ending: The function that turns logits into outputs.
        inputs: Numbers of the tensor for `outputs` numbers of the output; None for as many.
        outputs: Numbers of the output; None for any number.
        predict: Returns the outputs (pictures, outputs) for the tensor (pictures, inputs).
        make: Makes logits of the tensor; None where the tensor holds them.
        logarithm: Whether the outputs are logarithms.
    """

    ending: Ending
    inputs: int | None
    outputs: int | None
    predict: Callable[[Array], Array]
    make: Make | None = None
    logarithm: bool = False


def log_softmax(t: Array) -> Array:
    """Return the logarithm of the softmax of each row."""
    t = t - t.max(axis=1, keepdims=True)
    return np.asarray(t - np.log(np.exp(t).sum(axis=1, keepdims=True)))


def log_sigmoid(t: Array) -> Array:
    """Return the logarithm of the sigmoid of each number."""
    return np.asarray(-np.logaddexp(0, -t))


def _signed(signs: list[list[float]]) -> Make:
    return lambda op, x: op.Mul(x, op.constant(signs, np.float32))


def _difference(signs: list[list[float]]) -> Make:
    return lambda op, x: op.ReduceSum(op.Mul(x, op.constant(signs, np.float32)), op.ints([1]), keepdims=1)


# Each predicts logarithms, which tell small probabilities apart. Those of two numbers come first: the softmax of
# (0, z) would leave nothing that speaks for the first.
READINGS = (
    Reading("sigmoid", 1, 2, lambda t: log_sigmoid(t * [[1, -1]]), _signed([[1, -1]])),
    Reading("sigmoid", 1, 2, lambda t: log_sigmoid(t * [[-1, 1]]), _signed([[-1, 1]])),
    Reading("softmax", None, None, log_softmax),
    Reading("sigmoid", None, None, log_sigmoid),
    Reading("sigmoid", None, None, lambda t: log_sigmoid(-t), lambda op, x: op.Neg(x)),
    Reading("sigmoid", None, None, lambda t: log_sigmoid(2 * t), _signed([[2]])),  # (1 + tanh t) / 2
    Reading("sigmoid", 2, 1, lambda t: log_softmax(t)[:, 1:], _difference([[-1, 1]])),
    Reading("sigmoid", 2, 1, lambda t: log_softmax(t)[:, :1], _difference([[1, -1]])),
    Reading("softmax", None, None, log_softmax, logarithm=True),
    Reading("sigmoid", None, None, log_sigmoid, logarithm=True),
)


def log_of(scale: float = 1.0) -> Make:
    """Return what makes log(x * scale), the logits of probabilities that sum to one."""

    def make(op: Ops, x: ir.Value) -> ir.Value:
        return op.Log(op.Max(op.Mul(x, op.constant(scale, np.float32)), op.constant(LEAST, np.float32)))

    return make


def logit_of(scale: float = 1.0, offset: float = 0.0) -> Make:
    """Return what makes log(p / (1 - p)) of p = x * scale + offset in [0, 1]; beyond, the logit is linear.

    So a class beyond keeps a gradient, in the direction of that of x.
    """

    def make(op: Ops, x: ir.Value) -> ir.Value:
        zero, one, margin = (op.constant(number, np.float32) for number in (0, 1, MARGIN))
        p = op.Add(op.Mul(x, op.constant(scale, np.float32)), op.constant(offset, np.float32))
        inner = op.Clip(p, zero, one)
        # A bound of 1 - MARGIN would do for both, but is 1 in float16.
        logit = op.Sub(op.Log(op.Max(inner, margin)), op.Log(op.Max(op.Sub(one, inner), margin)))
        return op.Add(logit, op.Mul(op.Sub(p, inner), op.constant(STEEP, np.float32)))

    return make


def log_sigmoid_of(op: Ops, x: ir.Value) -> ir.Value:
    """Return log sigmoid(x), the logits of sigmoids that are divided by their sum."""
    return op.Neg(op.Softplus(op.Neg(x)))
