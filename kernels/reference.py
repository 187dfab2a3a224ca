"""The arithmetic of Fusion-CAM (arXiv 2603.05386), as in the authors' published program.

All maps are float arrays; results have the type of the inputs. The last axes are height and width, (H, W). The formulas
hold as well for a signal (L,), where up() is linear, and for a volume (D, H, W), where it is trilinear: see `size`.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float64Array, IndexArray, Size

THETA = 10.0  # percentile below which Grad-CAM counts as noise; the paper finds 10 to 20 best
DEGENERATE = 1e-6


class Taps(NamedTuple):
    """Bilinear interpolation along one axis: output i is (1 - weight[i]) in[low[i]] + weight[i] in[high[i]]."""

    low: IndexArray
    high: IndexArray
    weight: Float64Array

    def select(self, outputs: IndexArray) -> "Taps":
        """Return the taps of a selection of the outputs."""
        return Taps(self.low[outputs], self.high[outputs], self.weight[outputs])


def places(small: int, large: int, corners: bool = False) -> Float64Array:
    """Return the positions of the outputs (large,) among the inputs 0 .. small - 1."""
    if corners:
        return np.asarray(np.arange(large) * ((small - 1) / max(large - 1, 1)))
    return np.asarray((np.arange(large) + 0.5) * small / large - 0.5)


@lru_cache(maxsize=64)
def taps(small: int, large: int, corners: bool = False) -> Taps:
    """Return the taps of ONNX Resize `linear`, `half_pixel` (edges clamped), or of `align_corners`."""
    at = np.clip(places(small, large, corners), 0, small - 1)
    low = np.floor(at).astype(np.intp)
    return Taps(low, np.minimum(low + 1, small - 1), at - low)


def interpolate(maps: Array, *axes: Taps) -> Array:
    """Return maps (..., h, w) as (..., len(rows.low), len(columns.low)), interpolated along the last axis first.

    Args:
        maps: The maps.
        axes: Taps of each of the last axes, such as rows and columns.
    """
    for place, (low, high, weight) in enumerate(reversed(axes)):
        share = weight.astype(maps.dtype).reshape(-1, *[1] * place)
        maps = maps.take(low, -1 - place) * (1 - share) + maps.take(high, -1 - place) * share
    return np.asarray(maps)


def upsample(maps: Array, size: Size) -> Array:
    """Return up(maps): linear along each axis, (..., h, w) to (..., H, W)."""
    return interpolate(maps, *(taps(n, m) for n, m in zip(maps.shape[-len(size) :], size, strict=True)))


def places_of(maps: Array) -> tuple[int, ...]:
    """Return the axes of the places (h, w) in maps (K, h, w)."""
    return tuple(range(1, maps.ndim))


def is_constant(low: Array, high: Array) -> Array:
    """Return whether maps of these extremes are constant but for rounding; a range of one ulp is no signal."""
    return np.asarray(high - low <= 1e-6 * np.maximum(np.abs(low), np.abs(high)) + 1e-12)


def unit(maps: Array, rank: int = 2) -> Array:
    """Return each map shifted and scaled to [0, 1]; a constant map becomes all zeros.

    Args:
        maps: One map, or an array of them.
        rank: Number of axes of a map.
    """
    low, high = (f(maps, axis=tuple(range(-rank, 0)), keepdims=True) for f in (np.min, np.max))
    constant = is_constant(low, high)
    return np.asarray(np.where(constant, 0, (maps - low) / np.where(constant, 1, high - low)), maps.dtype)


def relu(maps: Array) -> Array:
    """Return max(maps, 0), element by element."""
    return np.asarray(np.maximum(maps, 0))


def weighted_sum(weights: Array, activations: Array) -> Array:
    """Return sum_k w_k A_k for weights (K,) and activations (K, h, w)."""
    # Not by tensordot: BLAS would start threads of its own beside those of onnxruntime.
    return np.asarray(np.einsum("k,k...->...", weights, activations))


def softmax(scores: Array, axis: int = -1) -> Array:
    """Return the softmax along an axis."""
    shifted = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=axis, keepdims=True))


def probabilities(logits: Array, ending: str) -> Array:
    """Return the probabilities of logits (..., classes), in float64.

    Args:
        logits: The logits.
        ending: As in the manifest: `sigmoid`, `value` (a regression: the logits themselves), else a softmax.
    """
    exact = logits.astype(np.float64)
    if ending == "value":
        return exact
    return np.asarray(np.exp(-np.logaddexp(0, -exact))) if ending == "sigmoid" else softmax(exact)


def rectified(small: Array, size: Size) -> Array:
    """Return unit(up(relu(m))) of a map m (h, w), at `size` (H, W)."""
    return unit(upsample(relu(small), size), len(size))


def log_sum_exp(scores: Array) -> Array:
    """Return log(sum_j exp(s_j)) over the last axis, in float64."""
    exact = scores.astype(np.float64)
    top = exact.max(axis=-1, keepdims=True)
    return np.asarray(top[..., 0] + np.log(np.exp(exact - top).sum(axis=-1)))


def grad_cam(activations: Array, gradients: Array, size: Size) -> Array:
    """Return Grad-CAM (arXiv 1610.02391), G = unit(up(relu(sum_k alpha_k A_k))), alpha_k the mean of g_k.

    Args:
        activations: A (K, h, w).
        gradients: g (K, h, w), of the logit.
        size: (H, W).

    Returns:
        G (H, W).
    """
    alpha = gradients.mean(axis=places_of(gradients))
    return rectified(weighted_sum(alpha, activations), size)


def denoise(gradient_map: Array, theta: float = THETA) -> Array:
    """Return D = unit(G where G >= t, else 0), t the percentile `theta` (numpy's, linear): step 1 of Fusion-CAM."""
    threshold = np.percentile(gradient_map, theta)
    kept = np.where(gradient_map >= threshold, gradient_map, 0)
    return unit(kept.astype(gradient_map.dtype), gradient_map.ndim)


def score_cam(activations: Array, scores: Array, size: Size) -> Array:
    """Return Score-CAM (arXiv 1910.01279), R = unit(relu(up(sum_k w_k A_k))), w the softmax of the scores.

    Args:
        activations: A (K, h, w); channels that are zero everywhere may be left out, even all.
        scores: s_k = f_c(x * M_k) (K,), logits.
        size: (H, W).

    Returns:
        R (H, W).
    """
    if not len(scores):
        return np.zeros(size, activations.dtype)
    return unit(relu(upsample(weighted_sum(softmax(scores), activations), size)), len(size))


class Contributions(NamedTuple):
    """Shares of two maps; `degenerate`: the gains cancel or are too small; `mixed`: the shares differ in sign."""

    first: float
    second: float
    degenerate: bool
    mixed: bool


def contributions(first: float, second: float) -> Contributions:
    """Return two confidence gains as shares of their sum, equal shares where it is about zero: step 3 of Fusion-CAM."""
    total = first + second
    if not abs(total) >= DEGENERATE:
        return Contributions(0.5, 0.5, True, False)
    return Contributions(first / (total + 1e-8), second / (total + 1e-8), False, first * second < 0)


def unite(denoised: Array, region: Array, shares: Contributions) -> Array:
    """Return U = unit(bD D + bR R): step 3 of Fusion-CAM."""
    return unit(shares.first * denoised + shares.second * region, region.ndim)


def blend(union: Array, region: Array, shares: Contributions) -> Array:
    """Return F: per pixel the larger of two maps where they agree, their mean where they differ (step 4 of Fusion-CAM).

    F = unit(sim max(L1, L2) + (1 - sim) (L1 + L2) / 2), L1 = bU U, L2 = bR R, sim = clip(1 - |L1 - L2|, 0, 1).
    """
    one, two = shares.first * union, shares.second * region
    similarity = np.clip(1 - np.abs(one - two), 0, 1)
    return unit(similarity * np.maximum(one, two) + (1 - similarity) * (one + two) / 2, region.ndim)


def fusion_cam(
    activations: Array, gradients: Array, scores: Array, confidence: Callable[[Array], float], size: Size
) -> dict[str, Array]:
    """Return the maps of Fusion-CAM (H, W) by name: `grad_cam` G, `score_cam` R and `fusion_cam` F.

    Args:
        activations: A (K, h, w).
        gradients: g (K, h, w), of the logit.
        scores: s_k = f_c(x * M_k) (K,), logits; the score of a channel that is zero everywhere has no effect.
        confidence: Returns p_c(x * m) of a map m (H, W).
        size: (H, W).
    """
    live = activations.any(axis=places_of(activations))
    gradient_map = grad_cam(activations, gradients, size)
    denoised, region = denoise(gradient_map), score_cam(activations[live], scores[live], size)
    blank, of_denoised, of_region = (confidence(m) for m in (np.zeros(size), denoised, region))
    shares = contributions(of_denoised - blank, of_region - blank)
    union = unite(denoised, region, shares)
    shares = contributions(confidence(union) - blank, shares.second)
    return {"grad_cam": gradient_map, "score_cam": region, "fusion_cam": blend(union, region, shares)}


def overlay(photos: Array, maps: Array, colors: Array, opacity: float) -> Array:
    """Return photos with maps drawn over them; opacity grows with saliency, so the photo stays visible elsewhere.

    The colours of the photo are muted first: a red bird would look like evidence.

    Args:
        photos: (..., 3) uint8 RGB.
        maps: (...) in [0, 1]; NaN counts as 0.
        colors: (256, 3) uint8 RGB, for maps from 0 to 1.
        opacity: Of the colours where a map is 0.4 or more, in [0, 1].

    Returns:
        (..., 3) uint8 RGB.
    """
    value = np.nan_to_num(maps).clip(0, 1)[..., None]
    red, green, blue = (photos[..., c, None].astype(np.int32) for c in range(3))
    grey = (9798 * red + 19235 * green + 3735 * blue + (1 << 14)) >> 15  # as OpenCV has it
    muted = ((7 * photos.astype(np.int32) + 13 * grey + 10) // 20).astype(np.float32)
    painted = colors[np.rint(value[..., 0] * 255).astype(np.intp)]
    alpha = np.float32(opacity) * (np.float32(2.5) * value).clip(0, 1)
    return np.asarray(np.rint(muted + alpha * (painted - muted)), np.uint8)
