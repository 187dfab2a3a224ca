"""The kinds of targets that a user asks for: public names of `fusioncam`."""

import os
from dataclasses import dataclass
from typing import Any, TypeAlias

from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.photos.model_input import ImageLike


@dataclass(frozen=True)
class Class:
    """A class: of a classifier, or of a segmenter where it wins.

    Attributes:
        class_: Its number or its name.
    """

    class_: int | str


@dataclass(frozen=True)
class Value:
    """A value of a regression, or the mean of a heat map over the picture.

    Attributes:
        column: Which value, or which map, from 0 on.
        down: Whether the map shows what lowers it, in place of what raises it.
    """

    column: int = 0
    down: bool = False


@dataclass(frozen=True, eq=False)
class Region:
    """A class of a segmenter over a region of the picture, or a heat map over a region.

    Without mask and point the region is where the class wins, or all of a heat map.

    Attributes:
        class_: Number or name of the class, or of the map; by default the one at the point, else the one that has most
            of the mask or of the picture.
        mask: The region: a file, or an array (H0, W0) of the photo's size, where what is not zero is inside.
        point: (x, y) in pixels of the photo, from its upper left corner: the connected part of the class there.
        peak: Whether the score is the largest value in the region, in place of the mean.
    """

    class_: int | str | None = None
    mask: str | os.PathLike[str] | Any = None
    point: tuple[float, float] | None = None
    peak: bool = False


@dataclass(frozen=True, eq=False)
class Cells:
    """A map over weights on the grid of the maps, as the graphs themselves take a region; no public kind.

    Attributes:
        class_: Number of the class or the map; None for the one of the highest mean.
        weights: (h', w'), not negative.
        peak: See `Region`.
    """

    class_: int | None
    weights: Float32Array
    peak: bool = False


@dataclass(frozen=True, eq=False)
class Like:
    """Likeness of the picture's embedding to a reference: the cosine of the angle between both.

    Attributes:
        reference: Another picture in any form; or a vector, as an array or as the path of a .npy file.
    """

    reference: ImageLike


Target: TypeAlias = Class | Value | Region | Cells | Like
