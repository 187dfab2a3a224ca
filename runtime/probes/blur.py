"""The blurred picture that insertion begins with, as in the program of RISE (arXiv 1806.07421)."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import Float32Array, Float64Array

KERNEL, DEVIATION, SIDE = 11, 5.0, 224  # pixels of RISE's kernel, its deviation, and the pictures it is made for


def blurred(x: Float32Array) -> Float32Array:
    """Return the picture (C, H, W) blurred; the kernel grows with the picture, and sees zeros beyond the edges."""
    scale = float(np.sqrt(x.shape[1] * x.shape[2])) / SIDE
    kernel = rise_kernel(2 * round((KERNEL * scale - 1) / 2) + 1, DEVIATION * scale)
    planes = [cv2.sepFilter2D(plane, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT) for plane in x]
    return np.stack(planes).astype(np.float32, copy=False)


def rise_kernel(length: int, deviation: float) -> Float64Array:
    """Return a Gaussian cut at four deviations, whose tails are folded back at the ends of its `length` pixels."""
    length = max(length, 3)
    reach = int(4 * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weight = np.exp(-0.5 * (offsets / deviation) ** 2)
    place = (length // 2 + offsets) % (2 * length)
    folded = np.bincount(np.minimum(place, 2 * length - 1 - place), weight, length)
    return np.asarray(folded / weight.sum())
