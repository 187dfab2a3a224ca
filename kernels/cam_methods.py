"""The maps of other methods of the family, from activations A, gradients g and scores, all (K, h, w) or (K,)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Size
from fusioncam.kernels.reference import places_of, rectified, relu, softmax, unit, upsample, weighted_sum

GROUPS = 32  # of Group-CAM
GROUP_PERCENTILE = 70.0  # below it, a group's map counts as noise
GROUP_BLUR, GROUP_SIGMA = 51, 50.0  # pixels


def _alpha(gradients: Array) -> Array:
    """Return the weights of Grad-CAM (K,)."""
    return np.asarray(gradients.mean(axis=places_of(gradients)))


def _plus_plus(activations: Array, gradients: Array, eps: float = 0.0) -> Array:
    """Return the map of w_k = sum_ij a_ij relu(g_ij), a = g^2 / (2 g^2 + sum(A_k) g^3 + eps), or 0 instead of 0/0."""
    places = places_of(activations)
    total = activations.sum(axis=places, keepdims=True)
    below = 2 * gradients**2 + total * gradients**3 + eps
    fine = (gradients != 0) & (below != 0)
    a = np.where(fine, gradients**2 / np.where(fine, below, 1), 0)
    return weighted_sum((a * relu(gradients)).sum(axis=places), activations)


def _x_grad(activations: Array, gradients: Array) -> Array:
    """Return the map of w_k = sum_ij g_ij A_ij / (sum_ij A_ij + 1e-7)."""
    places = places_of(activations)
    weights = (gradients * activations).sum(axis=places) / (activations.sum(axis=places) + 1e-7)
    return weighted_sum(weights, activations)


GRADIENT_MAPS: dict[str, Callable[[Array, Array], Array]] = {
    "grad_cam": lambda a, g: weighted_sum(_alpha(g), a),  # arXiv 1610.02391
    "grad_cam_pp": _plus_plus,  # arXiv 1710.11063, eq. 19
    "grad_cam_pp_eps": lambda a, g: _plus_plus(a, g, 1e-6),  # as pytorch-grad-cam divides
    "xgrad_cam": _x_grad,  # arXiv 2008.02312
    "hires_cam": lambda a, g: (g * a).sum(axis=0),  # arXiv 2011.08891
    "layer_cam": lambda a, g: (relu(g) * a).sum(axis=0),  # Jiang et al., TIP 2021
}
"""The map (h, w) of each gradient method, from A and g (K, h, w); it goes below zero."""
BY_PLACE = ("hires_cam", "layer_cam")
"""Methods that weigh each place of a channel by itself; the others weigh channels."""


def gradient_map(method: str, activations: Array, gradients: Array, size: Size, local: bool = False) -> Array:
    """Return unit(up(relu(m))) (H, W) of the map m of a gradient method.

    Args:
        method: The method.
        activations: A (K, h, w).
        gradients: g (K, h, w).
        size: (H, W).
        local: Whether the target is at one place of the picture: methods that weigh channels see A by `seen_at`.
    """
    if local and method not in BY_PLACE:
        activations = seen_at(activations, gradients)
    return rectified(GRADIENT_MAPS[method](activations, gradients), size)


def seen_at(activations: Array, gradients: Array) -> Array:
    """Return A (K, h, w), each place weighted by what it adds to the score: relu(sum_k g_k A_k), largest 1.

    A channel responds to all objects of its kind, and a weight of the whole channel shows them all; a detection is of
    one. Places are weighted for the same reason in SSGrad-CAM (Yamauchi and Ishikawa, ICIP 2022), by the gradient. But
    that is largest in the middle of a detection, even where nothing of the object is there, as in a ring. What a place
    adds is the map of HiRes-CAM (arXiv 2011.08891). Where no place adds anything, all count the same.

    Args:
        activations: A.
        gradients: g (K, h, w).
    """
    strengths = relu((gradients * activations).sum(axis=0))
    largest = strengths.max()
    return np.asarray(activations * (strengths / largest if largest > 0 else 1), activations.dtype)


class Scores(NamedTuple):
    """Scores of the masked pictures x * M_k, for one class.

    Attributes:
        logits: f_c(x * M_k) (K,).
        probabilities: p_c(x * M_k) (K,).
        blank: f_c(x * 0).
    """

    logits: Array
    probabilities: Array
    blank: float


class ScoreCam(NamedTuple):
    """A variant of Score-CAM (arXiv 1910.01279): programs differ.

    Attributes:
        weights: w (K,) of the scores.
        corners: Whether masks are enlarged with the centres of the corner pixels fixed (`align_corners=True`).
        relu_first: Whether the map is cut off at zero before it is enlarged.
    """

    weights: Callable[[Scores], Array]
    corners: bool = False
    relu_first: bool = False


SCORE_CAMS: dict[str, ScoreCam] = {
    "score_cam": ScoreCam(lambda s: softmax(s.logits)),  # the program of Fusion-CAM's authors
    "score_cam_probability": ScoreCam(lambda s: s.probabilities),  # the program of Score-CAM's authors
    "score_cam_increase": ScoreCam(lambda s: s.logits - s.blank),  # the paper's Channel-wise Increase of Confidence
    "score_cam_corners": ScoreCam(lambda s: softmax(s.logits), corners=True, relu_first=True),  # pytorch-grad-cam
}


def score_cam_map(method: str, activations: Array, scores: Scores, size: Size) -> Array:
    """Return R (H, W) of a variant; A and the scores may lack channels of zeros, even all of them."""
    if not len(activations):
        return np.zeros(size, activations.dtype)
    variant = SCORE_CAMS[method]
    summed = weighted_sum(variant.weights(scores), activations)
    return rectified(summed, size) if variant.relu_first else unit(relu(upsample(summed, size)), len(size))


def group_maps(activations: Array, gradients: Array) -> Array:
    """Return the sums (at most 32, h, w) of alpha_k A_k in groups of neighbours, less noise (arXiv 2103.13859)."""
    places = places_of(activations)
    weighted = np.expand_dims(_alpha(gradients), places) * activations
    channels = -(-len(weighted) // GROUPS)
    summed = relu(np.add.reduceat(weighted, np.arange(0, len(weighted), channels), axis=0))
    noise = np.percentile(summed, GROUP_PERCENTILE, axis=places, keepdims=True)
    return np.where(summed > noise, summed, 0)


def blur(image: Array) -> Array:
    """Return x (C, H, W) blurred, which Group-CAM shows in hidden places; the size of the Gaussian is the authors'."""
    return gaussian(image, GROUP_BLUR, GROUP_SIGMA)


def gaussian(image: Array, side: int, sigma: float) -> Array:
    """Return x (C, H, W) under a Gaussian of `side` taps along each axis; edges are mirrored (`BORDER_REFLECT_101`)."""
    import cv2  # here, so that the names of the methods are known where OpenCV does not load

    if image.ndim == 3:
        return np.stack([cv2.GaussianBlur(p, (side, side), sigma, borderType=cv2.BORDER_REFLECT_101) for p in image])
    for axis in places_of(image):
        rows = np.moveaxis(image, axis, -1)
        kernel = cv2.getGaussianKernel(side, sigma, cv2.CV_32F)
        wide = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(side // 2, side // 2)], mode="reflect")
        summed = sum(wide[..., n : n + rows.shape[-1]] * weight for n, weight in enumerate(kernel[:, 0]))
        image = np.moveaxis(np.asarray(summed), -1, axis)
    return np.ascontiguousarray(image)


def group_cam_map(masks: Array, gains: Array, size: Size) -> Array:
    """Return Group-CAM (H, W): unit(relu(sum_g gain_g up(m_g))), m (G, h, w) the masks before they are enlarged.

    Args:
        masks: m.
        gains: p_c(x M_g + blur(x) (1 - M_g)) - p_c(blur(x)) (G,).
        size: (H, W).
    """
    if not len(masks):
        return np.zeros(size, masks.dtype)
    return unit(relu(upsample(weighted_sum(gains, masks), size)), len(size))


def recipro_cam_map(scores: Array, grid: Size, size: Size) -> Array:
    """Return Recipro-CAM (arXiv 2209.14074), (H, W): unit(up(s)), s (h w,) the logits where one place is kept."""
    return unit(upsample(scores.reshape(grid), size), len(size))
