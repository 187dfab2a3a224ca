"""Operators of ai.onnx.ml that scale, choose or weigh features behind a network, written in ONNX's own.

The formulas are those of https://github.com/onnx/onnx/blob/main/docs/Operators-ml.md. Trees, kernels and encoders of
labels stay: a gradient through them is zero or has no use.
"""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.tape import Ops
from fusioncam.export.lowering.table import Call, lowering

ML = "ai.onnx.ml"
TRANSFORMS: dict[str, Callable[[Ops, ir.Value], ir.Value]] = {
    "NONE": lambda op, y: y,
    "LOGISTIC": lambda op, y: op.Sigmoid(y),
    "SOFTMAX": lambda op, y: op.Softmax(y, axis=-1),
}
NORMS: dict[str, Callable[[Ops, ir.Value], ir.Value]] = {
    "MAX": lambda op, x: op.ReduceMax(x, op.ints([-1])),
    "L1": lambda op, x: op.ReduceL1(x, op.ints([-1])),
    "L2": lambda op, x: op.ReduceL2(x, op.ints([-1])),
}


def real(call: Call, i: int = 0) -> ir.Value:
    """Return input `i` as float32, the type of what these operators return."""
    value = call.input(i)
    return value if value.dtype == ir.DataType.FLOAT else call.op.Cast(value, to=ir.DataType.FLOAT)


def numbers(call: Call, name: str) -> ir.Value:
    """Return an attribute of real numbers as a constant."""
    return call.op.constant(call.attribute(name), np.float32)


def table(call: Call) -> bool:
    """Return whether the inputs are rows of features, (N, C), or of unknown shape; the source is compared with then."""
    return all(v is None or v.shape is None or len(v.shape) == 2 for v in call.node.inputs)


@lowering("Scaler", domain=ML)
def _scaler(call: Call) -> ir.Value:
    op, y = call.op, real(call)
    if call.attribute("offset"):
        y = op.Sub(y, numbers(call, "offset"))
    return op.Mul(y, numbers(call, "scale")) if call.attribute("scale") else y


@lowering("Normalizer", domain=ML)
def _normalizer(call: Call) -> ir.Value | None:
    if not table(call):
        return None
    op, x = call.op, real(call)
    norm = NORMS[str(call.attribute("norm", "MAX"))](op, x)
    zero = op.constant(0, np.float32)
    return op.Div(x, op.Where(op.Equal(norm, zero), op.constant(1, np.float32), norm))


def _weighed(call: Call, rows: int) -> ir.Value | None:
    """Return the products of the features with `rows` rows of coefficients, and what is made of them."""
    kind = str(call.attribute("post_transform", "NONE"))
    transform = TRANSFORMS.get(kind if rows > 1 or kind == "NONE" else "")  # onnxruntime has none of one target
    coefficients = np.asarray(call.attribute("coefficients"), np.float32)
    if transform is None or coefficients.size % rows:
        return None
    y = call.op.MatMul(real(call), call.op.constant(coefficients.reshape(rows, -1).T))
    return transform(call.op, call.op.Add(y, numbers(call, "intercepts")) if call.attribute("intercepts") else y)


@lowering("LinearRegressor", domain=ML)
def _linear_regressor(call: Call) -> ir.Value | None:
    return _weighed(call, int(call.attribute("targets", 1))) if table(call) else None


@lowering("LinearClassifier", domain=ML)
def _linear_classifier(call: Call) -> list[ir.Value | None] | None:
    named = {f"value_{kind}": call.attribute(f"classlabels_{kind}") for kind in ("ints", "strings")}
    labels = named["value_ints"] or named["value_strings"] or ()
    of_each = len(call.attribute("intercepts") or ()) == len(labels) > 1  # not one row for two classes
    scores = _weighed(call, len(labels)) if of_each and table(call) else None
    if scores is None:
        return None
    label, op = call.node.outputs[0], call.op
    if not label.uses() and not label.is_graph_output():
        return [None, scores]
    return [
        op.Gather(op.Constant(**{k: v for k, v in named.items() if v}), op.ArgMax(scores, axis=-1, keepdims=0)),
        scores,
    ]


@lowering("Imputer", domain=ML)
def _imputer(call: Call) -> ir.Value | None:
    if not call.attribute("imputed_value_floats"):
        return None
    op, x, missing = call.op, real(call), call.attribute("replaced_value_float", 0.0)
    found = op.IsNaN(x) if np.isnan(missing) else op.Equal(x, op.constant(missing, np.float32))
    return op.Where(found, numbers(call, "imputed_value_floats"), x)


@lowering("ArrayFeatureExtractor", domain=ML)
def _array_feature_extractor(call: Call) -> ir.Value | None:
    shape = call.input(0).shape
    if shape is not None and len(shape) == 1:  # the result has another axis
        return None
    return call.op.Gather(call.input(0), call.op.Reshape(call.input(1), call.op.ints([-1])), axis=-1)


@lowering("Binarizer", domain=ML)
def _binarizer(call: Call) -> ir.Value:
    op, x = call.op, real(call)
    above = op.Greater(x, op.constant(call.attribute("threshold", 0.0), np.float32))
    return op.CastLike(above, call.input(0))


@lowering("FeatureVectorizer", domain=ML)
def _feature_vectorizer(call: Call) -> ir.Value | None:
    return call.op.Concat(*(real(call, i) for i in range(len(call.node.inputs))), axis=1) if table(call) else None
