"""The kinds of targets that a user asks for: public names of `fusioncam`."""

import os
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

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


By = Literal["score", "box", "both"]


@dataclass(frozen=True, eq=False)
class Box:
    """A detection: the box that a detector puts around an object, and its class.

    Without box and point it is the best detection of the class, or of all classes.

    Attributes:
        class_: Number or name of its class. With a box or a point that only detections of other classes have, it is
            explained why the detector sees, or does not see, this class there.
        box: (x1, y1, x2, y2) in pixels of the photo. The detection that overlaps it most is explained; it must do so by
            at least a half (intersection over union).
        by: The evidence that counts: for the `score` of the class, for the edges of the `box`, or for `both`.
        keypoint: The number of a keypoint, from 0 on, or its name: its visibility is explained in place of the class.
        point: (x, y) in pixels of the photo: the smallest detection that holds it is explained.
        conf: The least score of a detection; by default the detector's own.
        iou: The overlap from which on the lower of two detections is a duplicate; by default the detector's own.
    """

    class_: int | str | None = None
    box: tuple[float, float, float, float] | None = None
    by: By = "score"
    keypoint: int | str | None = None
    point: tuple[float, float] | None = None
    conf: float | None = None
    iou: float | None = None


@dataclass(frozen=True)
class Detections:
    """All detections of a picture as one target, the sum of their scores.

    Attributes:
        class_: Number or name of the class of which they are; by default of any.
        conf: The least score of a detection; by default the detector's own.
        by: As of `Box`.
        iou: As of `Box`.
    """

    class_: int | str | None = None
    conf: float | None = None
    by: By = "score"
    iou: float | None = None


@dataclass(frozen=True)
class Each:
    """Every detection of a picture as a target of its own, the best first; no public kind.

    Attributes:
        classes: Numbers or names of the classes of which they are; none for any.
        by: As of `Box`.
        keypoint: As of `Box`.
        conf: As of `Box`.
        iou: As of `Box`.
        most: Their number, at most; by default ten.
        numbers: Places in their list, from 0 on: those alone are meant. None for all.
    """

    classes: tuple[int | str, ...] = ()
    by: By = "score"
    keypoint: int | str | None = None
    conf: float | None = None
    iou: float | None = None
    most: int | None = None
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Rivals:
    """Two classes at one detection, a target each: that of the detection, or the one asked for, and another.

    No public kind: both are read at the same place of the detector, also where another detection of the other class is
    near.

    Attributes:
        target: The detection.
        other: The other class, by its number.
    """

    target: Box
    other: int


class KnownObject(NamedTuple):
    """An object of a photo, as somebody has marked it.

    Attributes:
        classes: Its classes of the model; None where that is not known.
        box: x1, y1, x2, y2 in pixels of the photo.
        area: Its pixels.
    """

    classes: frozenset[int] | None
    box: tuple[float, float, float, float]
    area: float


@dataclass(frozen=True, eq=False)
class Matched:
    """The detections that match known objects, a target each, see `matched`; no public kind. There may be none."""

    objects: tuple[KnownObject, ...]


Target: TypeAlias = Class | Value | Region | Cells | Like | Box | Detections | Each | Rivals | Matched
