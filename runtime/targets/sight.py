"""The picture that targets are resolved for: what the model makes of it, and where its pixels lie."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import cv2
import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, Float64Array, Size
from fusioncam.manifest import Manifest, Preprocessing
from fusioncam.runtime.photos.axes import Axis
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.targets.detections import Anchors, Coordinates


class Outputs(NamedTuple):
    """Outputs of the model for a picture.

    Attributes:
        form: The normal form: (C,), (C, h', w'), (D,), or (A, numbers) of a detector.
        prototypes: Those of instance masks (P, h, w); None where the bundle has none.
    """

    form: Float32Array
    prototypes: Float32Array | None = None


@dataclass
class Sight:
    """A picture as the model sees it.

    Attributes:
        manifest: The bundle's.
        x: The picture, preprocessed.
        photo_size: (H0, W0) of the photo; None for a preprocessed picture, whose pixels are those of the input.
        read: Runs the model on a preprocessed picture.
    """

    manifest: Manifest
    x: Float32Array
    photo_size: Size | None
    read: Callable[[Float32Array], Outputs]

    @cached_property
    def _outputs(self) -> Outputs:
        return self.read(self.x)

    @property
    def form(self) -> Float32Array:
        """Return the normal form of this picture, see `Outputs`."""
        return self._outputs.form

    @cached_property
    def wins(self) -> BoolArray:
        """Return where each class wins (C, h', w'): has the highest logit or, by a sigmoid, a probability above 0.5."""
        if self.manifest.ending == "sigmoid":
            return np.asarray(self.form > 0)
        classes = np.arange(len(self.form)).reshape(-1, *[1] * (self.form.ndim - 1))
        return np.asarray(self.form.argmax(axis=0) == classes)

    @cached_property
    def blank(self) -> Float32Array:
        """Return the normal form of the baseline input x * 0."""
        return self.read(self.x * 0).form

    @cached_property
    def anchors(self) -> Anchors:
        """Return what a detector makes of this picture."""
        places = Coordinates.of(self.photo_size, self.manifest.preprocessing)
        return Anchors(self.form, self.manifest, places, self._outputs.prototypes)

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Return rows and columns of the photo, or of the preprocessed picture."""
        places = Coordinates.of(self.photo_size, self.manifest.preprocessing)
        return places.rows, places.columns

    @property
    def size(self) -> tuple[int, int]:
        """Return (H0, W0) of the photo, or (H, W) of the preprocessed picture."""
        rows, columns = self.axes
        return rows.whole, columns.whole

    @property
    def grid(self) -> tuple[int, int]:
        """Return (h', w'), the size of the maps of classes."""
        height, width = self.manifest.map_size or self.manifest.preprocessing.size
        return height, width

    def cell(self, point: Any) -> tuple[int, int]:
        """Return row and column of a point (x, y) of the photo on the grid of the maps.

        Raises:
            UsageError: It is no point, or the model does not see it.
        """
        try:
            x, y = (float(coordinate) for coordinate in point)
        except (TypeError, ValueError):
            raise UsageError(f"a point is (x, y) in pixels of the photo, not {point!r}") from None
        height, width = self.size
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(f"the point ({x:g}, {y:g}) lies outside of the photo: it has {width} x {height} pixels")
        cells = []
        for at, axis, cells_of_axis in zip((y, x), self.axes, self.grid, strict=True):
            pixel = (math.floor(at) + 0.5) * axis.resized / axis.whole - axis.start
            if not 0 <= pixel < axis.size:
                raise UsageError(
                    f"the point ({x:g}, {y:g}) lies where the photo is cropped: the model does not see it; choose one "
                    "nearer to the centre"
                )
            cells.append(min(int(pixel * cells_of_axis / axis.size), cells_of_axis - 1))
        return cells[0], cells[1]

    def shares(self, mask: Any) -> Float32Array:
        """Return the share (h', w') of each cell of the maps that lies in a mask, see `Region`.

        Raises:
            UsageError: It is no mask, of another size, or the model sees nothing of it.
            ImageError: Its file cannot be read.
        """
        inside = mask_of(mask)
        if inside.shape != self.size:
            found, wanted = (f"{width} x {height}" for height, width in (inside.shape, self.size))
            raise UsageError(f"the mask has {found} pixels, but the photo has {wanted}: give a mask of the same size")
        if not inside.any():
            raise UsageError("the mask is empty: everything in it is zero")
        shares: Array = inside
        for axis, cells in zip(self.axes, self.grid, strict=True):
            edges = (np.linspace(0, axis.size, cells + 1) + axis.start) * axis.whole / axis.resized
            shares = _averaged(shares, edges.clip(0, axis.whole)).T
        if not shares.any():
            raise UsageError("nothing of the mask is left where the photo is cropped: the model does not see it")
        return np.ascontiguousarray(shares, np.float32)


def mask_of(mask: Any) -> BoolArray:
    """Return a mask (H0, W0), of a file or an array: True where it is not zero.

    Raises:
        UsageError: It is no mask.
        ImageError: Its file cannot be read.
    """
    if isinstance(mask, str | os.PathLike):
        path = os.fspath(mask)
        values = load_array(path) if path.endswith(".npy") else read_image(path).max(axis=2)
    else:
        values = np.asarray(mask)
    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise UsageError(f"a mask is an array (H, W) of the photo's size, not {values.dtype} {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise UsageError("the mask holds NaN or infinity: give zeros and ones")
    if values.dtype.kind in "if" and (values < 0).any():
        raise UsageError("the mask holds numbers below zero: give zeros and ones")
    return np.asarray(values != 0)


def load_array(path: str) -> Array:
    """Return the array of a .npy file; raise UsageError where there is none."""
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path!r} as an array of NumPy: {error}") from error


def connected(wins: BoolArray, cell: tuple[int, int]) -> BoolArray:
    """Return the connected part (h', w') of a region that holds a cell; cells touch at edges and corners."""
    _, parts = cv2.connectedComponents(wins.astype(np.uint8), connectivity=8)
    return np.asarray(parts == parts[cell])


def region_on_input(weights: Array, preprocessing: Preprocessing) -> Float32Array:
    """Return a region, by weights (h', w') of cells, at the size (H, W) of the model's input, in [0, 1]."""
    height, width = preprocessing.size
    enlarged = cv2.resize(weights / weights.max(), (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def _averaged(values: Array, edges: Float64Array) -> Float64Array:
    """Return the means (n, W) of rows (H, W) between n + 1 edges, in rows; a row counts by its share between them."""
    means = []
    for start, stop in pairwise(edges.tolist()):
        first, last = int(start), min(math.ceil(stop), len(values))
        rows = np.arange(first, last)
        shares = (np.minimum(rows + 1, stop) - np.maximum(rows, start)).clip(0)
        means.append(shares @ values[first:last] / max(stop - start, 1e-12))
    return np.stack(means)
