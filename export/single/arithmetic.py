"""The arithmetic of Fusion-CAM (arXiv 2603.05386) in ONNX operators, as `kernels/reference.py` defines it."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.kernels.arrays import Float64Array
from fusioncam.kernels.masks import interpolation_matrix, turns
from fusioncam.kernels.reference import DEGENERATE, THETA
from fusioncam.manifest import Ending

LOWEST = -1e30  # score of a channel that gets no weight; minus infinity would make NaN where all channels have it
NEAR, SERIES = 0.25, 6  # distance of scores for which so many terms of exp(d) - 1 have all digits of float32
DIGITS = 1.5 * 2**12  # times the greatest activation: added to others and taken away again, it leaves a dozen digits
BISECTIONS = 40  # halvings of [0, 1]: float32 tells no finer ones


class Arithmetic:
    """The steps of the method on maps (..., H, W), written as nodes of one graph; all float32, as TensorRT has no more.

    Args:
        op: Appends to the graph.
        grids: (h, w) of each layer; maps (..., h, w) are on the largest, see `levels.Explaining`.
        size: (H, W) of the maps.
        classes: The number of classes.
        near: The number K of channels, where their scores may be so near each other that float32 keeps few digits of
            the weights; else 0.
        level: The number of the layer, where there are several.
    """

    def __init__(
        self,
        op: Ops,
        grids: Sequence[tuple[int, int]],
        size: tuple[int, int],
        classes: int = 0,
        near: int = 0,
        level: ir.Value | None = None,
    ) -> None:
        self.op, self.size, self.classes, self.near = op, size, classes, near
        self.grid = max(h for h, _ in grids), max(w for _, w in grids)
        self._grids, self._level = grids, level

    def number(self, value: float) -> ir.Value:
        """Return a number as a constant."""
        return self.op.constant(value, np.float32)

    def least(self, maps: ir.Value) -> ir.Value:
        """Return the least value of each map (..., 1, 1)."""
        return self.op.ReduceMin(maps, self.op.ints([-2, -1]), keepdims=1)

    def greatest(self, maps: ir.Value) -> ir.Value:
        """Return the greatest value of each map (..., 1, 1)."""
        return self.op.ReduceMax(maps, self.op.ints([-2, -1]), keepdims=1)

    def relu(self, maps: ir.Value, base: ir.Value) -> ir.Value:
        """Return max(m, 0) - `base` for maps given as m - `base`."""
        return self.op.Max(maps, self.op.Neg(base))

    def up(self, small: ir.Value) -> ir.Value:
        """Return maps (..., h, w) enlarged bilinearly to (..., H, W)."""
        return self._between(small, interpolation_matrix)

    def turning_points(self, small: ir.Value) -> ir.Value:
        """Return the values of up(.) where it may have its extremes: (..., at most 2 h + 2, at most 2 w + 2)."""
        return self._between(small, lambda n, m: interpolation_matrix(n, m)[turns(n, m)])

    def _between(self, small: ir.Value, matrix: Callable[[int, int], Float64Array]) -> ir.Value:
        """Return maps multiplied from both sides by the matrices of n to m values that `matrix` makes."""
        rows, columns = (
            [matrix(n, m) for n in sides] for sides, m in zip(zip(*self._grids, strict=True), self.size, strict=True)
        )
        wide = self.op.MatMul(small, self._of_level([m.T for m in _alike(columns)]))
        return self.op.MatMul(self._of_level(_alike(rows)), wide)

    def _of_level(self, matrices: Sequence[Float64Array]) -> ir.Value:
        if self._level is None:
            return self.op.constant(matrices[0], np.float32)
        return self.op.Gather(self.op.constant(np.stack(matrices), np.float32), self._level)

    def flat(self, span: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        """Return whether a map of these extremes, `span` apart, is constant but for rounding."""
        magnitude = self.op.Max(self.op.Abs(low), self.op.Abs(high))
        limit = self.op.Add(self.op.Mul(magnitude, self.number(1e-6)), self.number(1e-12))
        return self.op.LessOrEqual(span, limit)

    def scaled(self, activations: ir.Value) -> ir.Value:
        """Return the maps (n, h, w) that become M_k = unit(up(A_k)) when enlarged, for A (n, h, w).

        The least value is subtracted first, so float32 loses no digits where a map varies little around a large value.
        """
        op = self.op
        base = self.least(activations)
        above = op.Sub(activations, base)
        coarse = self.turning_points(above)
        low, high = self.least(coarse), self.greatest(coarse)
        span = op.Sub(high, low)
        flat = self.flat(span, op.Add(low, base), op.Add(high, base))
        one, zero = self.number(1), self.number(0)
        scale = op.Where(flat, zero, op.Div(one, op.Where(flat, one, span)))
        return op.Mul(op.Sub(above, low), scale)

    def unit(self, maps: ir.Value, base: ir.Value | None = None) -> ir.Value:
        """Return each map shifted and scaled to [0, 1]; a constant map becomes all zeros.

        Args:
            maps: The maps, or their distances from `base`.
            base: A scalar.
        """
        op = self.op
        low, high = self.least(maps), self.greatest(maps)
        span = op.Sub(high, low)
        ends = (low, high) if base is None else (op.Add(low, base), op.Add(high, base))
        flat = self.flat(span, *ends)
        shifted = op.Div(op.Sub(maps, low), op.Where(flat, self.number(1), span))
        return op.Where(flat, self.number(0), shifted)

    def weighted_sum(self, weights: ir.Value, activations: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the sum of w_k A_k over k, for weights (1, K) and activations (K, h, w).

        The sum has two parts, for the reason in `scaled`: a map (h, w), and a scalar to be added to it.
        """
        op, cells = self.op, self.grid[0] * self.grid[1]
        base = self.least(activations)
        above = op.MatMul(weights, op.Reshape(op.Sub(activations, base), op.ints([-1, cells])))
        below = op.MatMul(weights, op.Reshape(base, op.ints([-1, 1])))
        return op.Reshape(above, op.ints(self.grid)), op.Reshape(below, op.ints([]))

    def grad_cam(self, activations: ir.Value, gradients: ir.Value) -> ir.Value:
        """Return G (H, W) = unit(up(relu(sum_k alpha_k A_k))), alpha_k the mean of g_k; arXiv 1610.02391."""
        alpha = self.op.ReduceMean(gradients, self.op.ints([-2, -1]), keepdims=0)
        small, base = self.weighted_sum(self._row(alpha), activations)
        kept = self.relu(small, base)
        low = self.least(kept)  # what `relu` made zero is exactly zero now, and remains so when it is enlarged
        return self.unit(self.up(self.op.Sub(kept, low)), self.op.Add(low, base))

    def denoise(self, gradient_map: ir.Value) -> ir.Value:
        """Return D of step 1: G, where values below the percentile are zero, scaled to [0, 1]."""
        kept = self.op.GreaterOrEqual(gradient_map, percentile(self, gradient_map))
        return self.unit(self.op.Where(kept, gradient_map, self.number(0)))

    def score_cam(self, activations: ir.Value, scores: ir.Value) -> ir.Value:
        """Return R (H, W) = unit(relu(up(sum_k w_k A_k))), w the softmax of the scores (K,); arXiv 1910.01279."""
        small, base = (self._nearly_even_sum if self.near else self._softmax_sum)(scores, activations)
        return self.unit(self.relu(self.up(small), base), base)

    def _softmax_sum(self, scores: ir.Value, activations: ir.Value) -> tuple[ir.Value, ir.Value]:
        return self.weighted_sum(self._softmax(scores), activations)

    def _nearly_even_sum(self, scores: ir.Value, activations: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the sum of w_k A_k, w the softmax of the scores (K,), in two parts as `weighted_sum`.

        Cosines are so near each other that w_k is 1 / K but for a thousandth, and activations of a LayerNorm sum to
        zero at every place: what is large cancels. So the sum by w_k - 1 / K and the mean of A_k are computed apart.
        """
        varying, base = self.weighted_sum(self._excess(scores), activations)
        mean, low = self._mean(activations)
        return self.op.Add(varying, mean), self.op.Add(base, low)

    def _excess(self, scores: ir.Value) -> ir.Value:
        """Return w_k - 1 / K (1, K): where scores are near their mean by the series of exp(d) - 1."""
        op, one, axes = self.op, self.number(1), self.op.ints([1])
        apart = self._row(op.Sub(scores, op.ReduceMean(scores, op.ints([0]), keepdims=1)))
        series = one
        for n in range(SERIES, 1, -1):
            series = op.Add(one, op.Mul(op.Mul(apart, self.number(1 / n)), series))
        grown = op.Mul(apart, series)  # exp(d) - 1
        total = op.Add(op.ReduceSum(grown, axes, keepdims=1), self.number(self.near))
        near = op.Div(op.Sub(grown, op.ReduceMean(grown, axes, keepdims=1)), total)
        is_near = op.LessOrEqual(op.ReduceMax(op.Abs(apart), axes, keepdims=1), self.number(NEAR))
        return op.Where(is_near, near, op.Sub(self._softmax(scores), self.number(1 / self.near)))

    def _mean(self, activations: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the mean of A_k over k: a map (h, w), and a scalar to be added to it.

        The leading digits of all A_k, on one grid, sum up without rounding; what is left of them is small.
        """
        op, axes = self.op, self.op.ints([0])
        much = op.Mul(op.ReduceMax(op.Abs(activations), keepdims=0), self.number(DIGITS))
        leading = op.Sub(op.Add(activations, much), much)
        sums = op.ReduceSum(leading, axes, keepdims=0)
        rest = op.ReduceSum(op.Sub(activations, leading), axes, keepdims=0)
        low, share = op.ReduceMin(sums, keepdims=0), self.number(1 / self.near)
        return op.Mul(op.Add(op.Sub(sums, low), rest), share), op.Mul(low, share)

    def _row(self, values: ir.Value) -> ir.Value:
        """Return values (n,) as (1, n)."""
        return self.op.Unsqueeze(values, self.op.ints([0]))

    def _softmax(self, scores: ir.Value) -> ir.Value:
        """Return the weights (1, n) of scores (n,): TensorRT takes a Softmax of at least two axes."""
        return self.op.Softmax(self._row(scores), axis=1)

    def heaviest(self, scores: ir.Value, count: int) -> ir.Value:
        """Return the places (count,) of the greatest scores; see `kernels.rescoring`."""
        _, places = self.op.many("TopK", scores, self.op.ints([count]), count=2, axis=0)
        return places

    def corrected(self, scores: ir.Value, heavy: ir.Value, exact: ir.Value, again: ir.Value) -> ir.Value:
        """Return scores (n,) of which some were passed again: `rescoring.corrected`.

        Args:
            scores: Coarse scores.
            heavy: The heaviest channels (m,), the heaviest first.
            exact: Their exact scores (m,).
            again: Which of them count (m,): the first ones.
        """
        op = self.op
        coarse = op.Gather(scores, heavy)
        weights = self._softmax(op.Where(again, coarse, self.number(LOWEST)))
        error = op.Reshape(op.MatMul(weights, op.Unsqueeze(op.Sub(exact, coarse), op.ints([1]))), op.ints([1]))
        better = op.Where(again, exact, op.Add(coarse, error))
        return op.ScatterElements(op.Add(scores, error), heavy, better, axis=0)

    def confidence(self, logits: ir.Value, chosen: ir.Value, ending: Ending) -> tuple[ir.Value, ir.Value]:
        """Return the probability p (n,) of a class, from logits (n, classes), and what is left of it, 1 - p (n,).

        Near 1, float32 tells two values of p less well than two of 1 - p. Of a regression, p is the value, -p is left.
        """
        op = self.op
        if ending in ("value", "sigmoid"):
            column = op.Reshape(op.Gather(logits, chosen, axis=1), op.ints([-1]))
            both = column, op.Neg(column)
            if ending == "value":
                return both
            # onnxruntime's Sigmoid has a fixed number of decimals, so few digits are left of a value near 0.
            rest, chance = (op.Reciprocal(op.Add(op.Exp(v), self.number(1))) for v in both)
            return chance, rest
        every = op.Softmax(logits, axis=1)
        is_class = op.Equal(op.constant(np.arange(self.classes)), chosen)
        one, rest = (op.Where(is_class, *pair) for pair in ((every, self.number(0)), (self.number(0), every)))
        return op.ReduceSum(one, op.ints([1]), keepdims=0), op.ReduceSum(rest, op.ints([1]), keepdims=0)

    def gain(self, mapped: tuple[ir.Value, ir.Value], blank: tuple[ir.Value, ir.Value]) -> ir.Value:
        """Return p - p_blank of two pairs of `confidence`, by what is left of them where both are nearly 1."""
        op = self.op
        high = op.Greater(op.Add(mapped[0], blank[0]), self.number(1))
        return op.Where(high, op.Sub(blank[1], mapped[1]), op.Sub(mapped[0], blank[0]))

    def shares(self, first: ir.Value, second: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return two gains as shares of their sum, for step 3; equal shares where the sum is about zero."""
        op = self.op
        total = op.Add(first, second)
        told = op.GreaterOrEqual(op.Abs(total), self.number(DEGENERATE))
        divisor = op.Where(told, op.Add(total, self.number(1e-8)), self.number(1))
        one, two = (op.Where(told, op.Div(gain, divisor), self.number(0.5)) for gain in (first, second))
        return one, two

    def unite(self, denoised: ir.Value, region: ir.Value, shares: tuple[ir.Value, ir.Value]) -> ir.Value:
        """Return U = unit(bD D + bR R) of step 3."""
        op = self.op
        return self.unit(op.Add(op.Mul(shares[0], denoised), op.Mul(shares[1], region)))

    def blend(self, union: ir.Value, region: ir.Value, shares: tuple[ir.Value, ir.Value]) -> ir.Value:
        """Return F of step 4: the larger of L1 = bU U and L2 = bR R where they agree, their mean where they differ."""
        op = self.op
        one, two = op.Mul(shares[0], union), op.Mul(shares[1], region)
        apart = op.Abs(op.Sub(one, two))
        alike = op.Max(op.Sub(self.number(1), apart), self.number(0))  # it is never above one
        mean = op.Mul(op.Add(one, two), self.number(0.5))
        unlike = op.Mul(op.Sub(self.number(1), alike), mean)
        return self.unit(op.Add(op.Mul(alike, op.Max(one, two)), unlike))


def _alike(matrices: Sequence[Float64Array]) -> list[Float64Array]:
    """Return matrices in the shape of the largest: more columns are zero, more rows repeat the last one."""
    rows, columns = (max(sizes) for sizes in zip(*(m.shape for m in matrices), strict=True))
    wide = [np.pad(m, ((0, 0), (0, columns - m.shape[1]))) for m in matrices]
    return [np.pad(m, ((0, rows - len(m)), (0, 0)), mode="edge") for m in wide]


def _rank(count: int) -> tuple[int, float]:
    """Return the rank, from 0, of the last of `count` values below the percentile, and its share of the way up."""
    rank = (count - 1) * (THETA / 100)
    return int(rank), rank - int(rank)


def _between_neighbours(m: Arithmetic, low: ir.Value, high: ir.Value, share: float) -> ir.Value:
    """Return the value between two neighbours as NumPy interpolates: from the nearer, so that neither is passed."""
    step = m.op.Sub(high, low)
    if share < 0.5:
        return m.op.Add(low, m.op.Mul(step, m.number(share)))
    return m.op.Sub(high, m.op.Mul(step, m.number(1 - share)))


def percentile(m: Arithmetic, values: ir.Value) -> ir.Value:
    """Return the percentile THETA of a map (H, W) in [0, 1], linear between neighbours as in NumPy.

    A bisection finds the value, because TensorRT's TopK takes no more than 3840 values. The count of values at or below
    the middle tells in which half the value of that rank lies.
    """
    op = m.op
    rank, share = _rank(m.size[0] * m.size[1])

    def at_most(bound: ir.Value) -> ir.Value:
        return op.ReduceSum(op.Cast(op.LessOrEqual(values, bound), to=ir.DataType.FLOAT), keepdims=0)

    def next_above(bound: ir.Value) -> ir.Value:
        return op.ReduceMin(op.Where(op.Greater(values, bound), values, m.number(1)), keepdims=0)

    below, width = m.number(-1), 2.0  # the value sought lies in (below, below + width]
    for _ in range(BISECTIONS):
        width /= 2
        middle = op.Add(below, m.number(width))
        beyond = op.LessOrEqual(at_most(middle), op.constant(rank, np.float32))
        below = op.Where(beyond, middle, below)
    low = next_above(below)
    alone = op.LessOrEqual(at_most(low), op.constant(rank + 1, np.float32))
    return _between_neighbours(m, low, op.Where(alone, next_above(low), low), share)
