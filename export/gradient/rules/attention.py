"""Gradient rule of Attention, https://onnx.ai/onnx/operators/onnx__Attention.html, whose weights are computed again.

Y = P V with P = softmax(cap(scale Q K^T) + mask), so with dP = dY V^T and dS = P (dP - sum(dY Y)) the gradients are
dQ = scale dS K, dK = scale dS^T Q, dV = P^T dY. Heads of queries that share one of keys stand as further rows of
queries: (N, heads, L, size) becomes (N, heads of keys, heads / heads of keys * L, size), which moves nothing.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule, unbroadcast
from fusioncam.export.gradient.tape import Dims, Ops, dims, numpy_type

QUERIES, KEYS, VALUES, MASK = range(4)  # inputs; after them the cache, and how many of its keys count


def beyond_the_rule(node: ir.Node) -> bool:
    """Tell whether an Attention is left to the body that ONNX defines.

    So are decoders, which read or write a cache, weights as a further output, windows, and a mask of another length
    than the keys or beside the causal one, or of numbers of another type.
    """
    mask = node.inputs[MASK] if len(node.inputs) > MASK else None
    lengths = [v.shape[a] for v, a in ((mask, -1), (node.inputs[KEYS], -2)) if v is not None and v.shape is not None]
    return (
        any(v is not None for v in node.inputs[MASK + 1 :])
        or any(o.uses() or o.is_graph_output() for o in node.outputs[1:])
        or max(node.attributes.get_int(f"{side}_window_size", -1) for side in ("left", "right")) >= 0
        or (mask is not None and bool(node.attributes.get_int("is_causal", 0)))
        or (mask is not None and _types_differ(mask, node.inputs[QUERIES]))
        or (mask is not None and len({d for d in lengths if isinstance(d, int)}) > 1)
    )


def _types_differ(mask: ir.Value, queries: ir.Value | None) -> bool:
    known = None if queries is None else queries.dtype
    return None not in (mask.dtype, known) and mask.dtype not in (known, ir.DataType.BOOL)


@rule("Attention", every_input=True)
def _attention(s: Step) -> ir.Value:
    if beyond_the_rule(s.node):
        raise NotImplementedError("a cache, a window, weights as an output, or two masks")
    op, parts = s.op, _Parts(s)
    dy = op.once((s.y, s.dy, "rows"), lambda: parts.rows(s.dy, s.y, QUERIES))
    if s.index == VALUES:
        return parts.joined(op.MatMul(parts.turned(parts.weights), dy), VALUES)
    by_scores = op.once((s.y, s.dy, "scores"), lambda: parts.by_scores(dy))
    if s.index == MASK:
        return unbroadcast(op, parts.apart(by_scores), parts.shape, s.x)
    by_products = op.once((s.y, s.dy, "products"), lambda: parts.by_products(by_scores))
    if s.index == QUERIES:
        return parts.joined(parts.scaled(op.MatMul(by_products, parts.input(KEYS))), QUERIES)
    return parts.joined(op.MatMul(parts.turned(by_products), parts.queries), KEYS)


@dataclass(frozen=True)
class _Parts:
    """The tensors within an Attention, each appended once, and their gradients."""

    s: Step

    @property
    def op(self) -> Ops:
        """Return what appends nodes."""
        return self.s.op

    def heads(self, i: int) -> int:
        """Return the number of heads of an input."""
        x = self.s.input(i)
        name = "q_num_heads" if i == QUERIES else "kv_num_heads"
        return int(self.s.attribute(name)) if len(dims(x)) == 3 else self.s.static(x, 1)[0]

    @property
    def shape(self) -> Dims:
        """Return the shape of the weights, (N, heads, queries, keys)."""
        queries, keys = (self.s.static(self.s.input(i), -2)[0] for i in (QUERIES, KEYS))
        return dims(self.s.input(QUERIES))[0], self.heads(QUERIES), queries, keys

    def rows(self, value: ir.Value, like: ir.Value, i: int) -> ir.Value:
        """Return a tensor of the shape of another, with the heads of input `i`, as (N, heads of keys, rows, size)."""
        batch, heads, (length, width) = dims(like)[0], self.heads(i), self.s.static(like, -2)
        if len(dims(like)) == 3:
            width //= heads
            value = self.op.Transpose(self.op.reshape(value, (batch, length, heads, width)), perm=[0, 2, 1, 3])
        shared = self.heads(KEYS)
        return value if heads == shared else self.op.reshape(value, (batch, shared, heads // shared * length, width))

    def joined(self, value: ir.Value, i: int) -> ir.Value:
        """Return a gradient in the shape (N, heads of keys, rows, size) laid out as input `i`."""
        x = self.s.input(i)
        batch, heads, (length, width) = dims(x)[0], self.heads(i), self.s.static(x, -2)
        flat = len(dims(x)) == 3
        if heads != self.heads(KEYS):
            value = self.op.reshape(value, (batch, heads, length, width // heads if flat else width))
        return self.op.reshape_as(self.op.Transpose(value, perm=[0, 2, 1, 3]), x) if flat else value

    def apart(self, value: ir.Value) -> ir.Value:
        """Return numbers for all rows and keys in the shape (N, heads, queries, keys)."""
        return value if self.heads(QUERIES) == self.heads(KEYS) else self.op.reshape(value, self.shape)

    def turned(self, value: ir.Value) -> ir.Value:
        """Return matrices with rows and columns exchanged."""
        return self.op.Transpose(value, perm=[0, 1, 3, 2])

    def scaled(self, value: ir.Value) -> ir.Value:
        """Return a value times the scale."""
        size = self.s.static(self.s.input(QUERIES), -1)[0]
        size //= self.heads(QUERIES) if len(dims(self.s.input(QUERIES))) == 3 else 1
        scale = self.s.attribute("scale", 1 / math.sqrt(size))
        return value if scale == 1 else self.op.Mul(value, self._number(scale))

    def input(self, i: int) -> ir.Value:
        """Return an input in the shape (N, heads of keys, rows, size)."""
        return self.op.once((self.s.y, i), lambda: self.rows(self.s.input(i), self.s.input(i), i))

    @property
    def queries(self) -> ir.Value:
        """Return the scaled queries."""
        return self.op.once((self.s.y, "queries"), lambda: self.scaled(self.input(QUERIES)))

    @property
    def capped(self) -> ir.Value:
        """Return the hyperbolic tangents of the scores relative to the cap."""
        return self.op.once((self.s.y, "capped"), lambda: self.op.Tanh(self.op.Div(self._products(), self._cap)))

    @property
    def weights(self) -> ir.Value:
        """Return the weights of the values, (N, heads of keys, rows, keys): zeros for a query without keys."""
        return self.op.once((self.s.y, "weights"), self._weights)

    def by_scores(self, dy: ir.Value) -> ir.Value:
        """Return the gradient of what the softmax takes, given that of the output in rows."""
        op, y = self.op, self.rows(self.s.y, self.s.y, QUERIES)
        by_weights = op.MatMul(dy, self.turned(self.input(VALUES)))
        return op.Mul(self.weights, op.Sub(by_weights, op.ReduceSum(op.Mul(dy, y), op.ints([-1]), keepdims=1)))

    def by_products(self, by_scores: ir.Value) -> ir.Value:
        """Return the gradient of the products of queries and keys: that of a tanh is 1 - tanh^2."""
        if not self.s.attribute("softcap", 0.0):
            return by_scores
        return self.op.Mul(by_scores, self.op.Sub(self._number(1), self.op.Mul(self.capped, self.capped)))

    def _number(self, array: npt.ArrayLike) -> ir.Value:
        return self.op.like(array, self.s.input(QUERIES))

    @property
    def _cap(self) -> ir.Value:
        return self._number(self.s.attribute("softcap", 0.0))

    def _products(self) -> ir.Value:
        return self.op.MatMul(self.queries, self.turned(self.input(KEYS)))

    def _weights(self) -> ir.Value:
        scores = self.op.Mul(self.capped, self._cap) if self.s.attribute("softcap", 0.0) else self._products()
        batch, heads, queries, keys = self.shape
        if self.s.attribute("is_causal", 0):
            bias = np.where(np.tri(queries or 0, keys), 0, -np.inf)
            weights = self.op.Softmax(self.op.Add(self.apart(scores), self._number(bias)))
        elif self.s.has(MASK):
            weights = self._masked(self.apart(scores))
        else:
            return self.op.Softmax(scores)
        shared = self.heads(KEYS)
        rows = (batch, shared, (heads or 0) // shared * (queries or 0), keys)
        return weights if heads == shared else self.op.reshape(weights, rows)

    def _masked(self, scores: ir.Value) -> ir.Value:
        """Return the weights under the mask. onnxruntime takes the lowest number for minus infinity."""
        op, mask, known = self.op, self.s.input(MASK), self.s.constant(MASK)
        lowest = np.finfo(numpy_type(self.s.input(QUERIES))).min
        if known is None:
            if mask.dtype == ir.DataType.BOOL:
                return op.Where(mask, op.Softmax(op.Where(mask, scores, self._number(lowest))), self._number(0))
            allowed = op.Greater(mask, self._number(lowest))
            return op.Where(allowed, op.Softmax(op.Add(scores, mask)), self._number(0))
        seen = known if known.dtype == np.bool_ else known > lowest
        if seen.all() and seen is not known:
            return op.Softmax(op.Add(scores, mask))
        some = seen.any(-1, keepdims=True)
        bias = np.where(seen, 0 if seen is known else known, np.where(some, -np.inf, 0))
        weights = op.Softmax(op.Add(scores, self._number(bias)))
        return weights if some.all() else op.Where(op.constant(some), weights, self._number(0))
