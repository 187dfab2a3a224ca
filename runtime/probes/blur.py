"""The blurred picture that insertion begins with, as in the program of RISE (arXiv 1806.07421)."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import Float32Array, Float64Array

KERNEL, DEVIATION, SIDE = 11, 5.0, 224  # pixels of RISE's kernel, its deviation, and the pictures it is made for


def blurred(x: Float32Array) -> Float32Array:
    """Return the picture (C, H, W) blurred; the kernel grows with the picture, and sees zeros beyond the edges.

    A signal (C, L) or a volume (C, D, H, W) is blurred along each of its axes in the same way.
    """
    size = x.shape[1:]
    if len(size) != 2:
        for axis, length in enumerate(size, start=1):
            x = _along(x, axis, _kernel(length / SIDE))
        return x
    kernel = _kernel(float(np.sqrt(size[0] * size[1])) / SIDE)
    planes = [cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT) for plane in x]
    return np.stack(planes).astype(np.float32, copy=False)


def _kernel(scale: float) -> Float64Array:
    return rise_kernel(2 * round((KERNEL * scale - 1) / 2) + 1, DEVIATION * scale)


def _along(x: Float32Array, axis: int, kernel: Float64Array) -> Float32Array:
    """Blur one axis, with zeros beyond its ends."""
    rows = np.moveaxis(x, axis, -1)
    flat = np.ascontiguousarray(rows.reshape(-1, rows.shape[-1]))
    seen = cv2.sepFilter2D(flat, -1, kernel, np.ones(1), borderType=cv2.BORDER_CONSTANT)
    return np.ascontiguousarray(np.moveaxis(seen.reshape(rows.shape), -1, axis))


def rise_kernel(length: int, deviation: float) -> Float64Array:
    """Return a Gaussian cut at four deviations, whose tails are folded back at the ends of its `length` pixels."""
    length = max(length, 3)
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (offsets / deviation) ** 2)
    place = (length // 2 + offsets) % (2 * length)
    folded = np.bincount(np.minimum(place, 2 * length - 1 - place), weight, length)
    return np.asarray(folded / weight.sum())
