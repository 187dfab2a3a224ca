"""Pictures of any channels as people see them: photos as they are, grey as grey, bands stretched over the colours.

The slices of a volume are such pictures; a signal stays as it is, to be drawn as a chart.
"""

import numpy as np

from fusioncam.kernels.arrays import Array, UInt8Array
from fusioncam.preprocessing import Preprocessing

DARKEST, BRIGHTEST = 2, 98  # percentiles of a band that are shown as black and as white
SAMPLES = 1 << 18  # numbers of a band that the percentiles are taken of


def drawable(values: Array, preprocessing: Preprocessing) -> Array:
    """Return what maps are drawn on.

    Bands are shown as `Preprocessing.shown_bands` says: three as red, green and blue, one as grey, without a choice the
    mean of all as grey; each is stretched by itself.

    Args:
        values: As `picture_of` returns it: (H, W, 3) or (H, W, 1) uint8, (H, W, C) float32, or of a signal (L, C), of
            a volume (D, H, W, C) float32.
        preprocessing: The model's own.

    Returns:
        (H, W, 3) uint8 RGB; (L, C) of a signal, (D, H, W, 3) uint8 RGB of a volume.
    """
    if values.ndim == 2:
        return values
    if values.ndim == 4:  # stretched alike in all slices
        slices, height, width, channels = values.shape
        flat = drawable(values.reshape(slices * height, width, channels), preprocessing)
        return flat.reshape(slices, height, width, 3)
    if preprocessing.takes_photos:
        return values if values.shape[2] == 3 else np.repeat(values, 3, axis=2)
    shown = preprocessing.shown_channels
    bands = [values[..., c] for c in shown] or [values.mean(axis=2)]
    stretched = [_stretched(band) for band in bands]
    return np.stack(stretched * (3 // len(stretched)), axis=2)


def _stretched(band: Array) -> UInt8Array:
    """Return a band (H, W) in 0..255; grey where it is constant."""
    step = max(1, int(np.sqrt(band.size / SAMPLES)))
    low, high = np.percentile(band[::step, ::step], (DARKEST, BRIGHTEST)).tolist()
    if high <= low:
        return np.full(band.shape, 128, np.uint8)
    scaled = (band - np.float32(low)) * np.float32(255 / (high - low))
    return np.asarray(np.rint(scaled).clip(0, 255), np.uint8)
