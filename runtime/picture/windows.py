"""Windows of a photo: the part that shows a detection and its evidence, drawn at any size."""

from collections.abc import Sequence

import cv2
import numpy as np

from fusioncam.kernels.arrays import Float32Array, Float64Array, Size, UInt8Array

Window = tuple[int, int, int, int]
"""x1, y1, x2, y2 in pixels of the photo, which it lies in."""

EVIDENCE = 0.4  # of a map: what has as much lies in the window
AROUND = 0.4  # of a box's longer side, on each side of it
LEAST = 1 / 16  # of the photo's longer side: no window is smaller
MOST = 0.5  # of the photo: a larger window shows all of it
SLIVER = 2.0  # longer over shorter side of a window, where the photo has room
SQUASHED = 4.0  # the same of what is drawn: all of a photo that is longer is squashed


def whole(size: Size) -> Window:
    """Return the window of all of a photo (H, W)."""
    return 0, 0, size[1], size[0]


def close_up(box: Sequence[float], size: Size) -> Window:
    """Return the window around a box of a photo (H, W)."""
    x1, y1, x2, y2 = box
    around = max(AROUND * max(x2 - x1, y2 - y1), 1)
    return _rounded((x1 - around, y1 - around, x2 + around, y2 + around), size)


def with_evidence(box: Sequence[float], saliency: Float32Array, size: Size) -> Window:
    """Return the window of a photo (H, W) that holds a box and what a map over the photo (h, w) shows most."""
    near = close_up(box, size)
    rows, columns = (np.flatnonzero((saliency >= EVIDENCE).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return near
    down, across = (n / of for n, of in zip(size, saliency.shape, strict=True))
    low = min(near[0], columns[0] * across), min(near[1], rows[0] * down)
    high = max(near[2], (columns[-1] + 1) * across), max(near[3], (rows[-1] + 1) * down)
    window = _rounded((*low, *high), size)
    wide, tall = (window[n + 2] - window[n] for n in (0, 1))
    return whole(size) if wide * tall > MOST * size[0] * size[1] else window


def cut(photo: UInt8Array, window: Window, size: tuple[int, int]) -> UInt8Array:
    """Return a window of a photo (H, W, 3) at a size (h, w)."""
    x1, y1, x2, y2 = window
    smooth = cv2.INTER_CUBIC if size[0] > y2 - y1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(photo[y1:y2, x1:x2], size[::-1], interpolation=smooth), np.uint8)


def cut_map(saliency: Float32Array, window: Window, photo_size: Size, size: tuple[int, int]) -> Float32Array:
    """Return the part of a map over a photo (H, W) that lies in a window of it, at a size (h, w)."""
    scale, start = _placed(window, photo_size, saliency.shape)
    step = scale / size[::-1]
    # Pixel centres of the part lie at these places between the map's.
    back = np.array([[step[0], 0, start[0] + step[0] / 2 - 0.5], [0, step[1], start[1] + step[1] / 2 - 0.5]])
    if (step > 1).any():  # the map has more pixels: each counts
        low = np.floor(start).astype(int)
        high = np.maximum(np.ceil(start + scale).astype(int), low + 1)
        part = saliency[low[1] : high[1], low[0] : high[0]]
        return np.asarray(cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA), np.float32)
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    cubic = cv2.warpAffine(saliency, back, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cubic, np.float32)


def fitted(window: Window, room: tuple[int, int]) -> tuple[int, int]:
    """Return the size (h, w) at which a window just fits into a room (h, w), no sliver."""
    wide, tall = float(window[2] - window[0]), float(window[3] - window[1])
    wide, tall = max(wide, tall / SQUASHED), max(tall, wide / SQUASHED)
    scale = min(room[0] / tall, room[1] / wide)
    return round(scale * tall), round(scale * wide)


def _placed(window: Window, photo_size: Size, map_size: Sequence[int]) -> tuple[Float64Array, Float64Array]:
    """Return the size and the start of a window, (2,) each, in pixels of a map over the photo."""
    factor = np.array(map_size[::-1], np.float64) / photo_size[::-1]
    low, high = np.array(window[:2]), np.array(window[2:])
    return (high - low) * factor, low * factor


def _rounded(edges: Sequence[float], size: Size) -> Window:
    """Return a window that holds these edges, no sliver and not tiny, as far as the photo (H, W) has room."""
    height, width = size
    sides = np.array([edges[2] - edges[0], edges[3] - edges[1]], np.float64)
    sides = np.maximum(sides, max(sides.max() / SLIVER, LEAST * max(size)))
    centre = np.array([edges[0] + edges[2], edges[1] + edges[3]]) / 2
    window: list[tuple[int, int]] = []
    for middle, side, end in zip(centre, sides, (width, height), strict=True):
        length = min(int(np.ceil(side)), end)
        first = min(max(round(float(middle) - length / 2), 0), end - length)
        window.append((first, first + length))
    (left, right), (top, bottom) = window
    return left, top, right, bottom
