"""Drawn scenes of many objects of all sizes, for training and tests of the demo's detector.

Outlines, textures and grounds are those of `runtime/demo/scenes.py`, and so is how far objects stand off from the
ground. But an object is as small as a twentieth or as large as three quarters of the picture, a class may be there
several times, and the border may cut objects. Other blobs, of no class, are among them in the same sizes.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fusioncam.kernels.arrays import BoolArray, FloatingArray, UInt8Array
from fusioncam.runtime.demo.scenes import CLASSES, Item, Layout, draw, make_item, make_texture, place, sides_of

SIZE = (128, 128)
"""Height and width of the demo detector's input, in pixels."""

RADII = (0.06, 0.45)
MOST = 10
DISTRACTORS = 0.3
INSIDE = 0.7  # of a radius: the rest may lie beyond the border
APART = 0.8  # of two radii; items that fit nowhere are left out
LEAST = 12
"""Visible pixels of an object; what shows less of itself is none."""


@dataclass(frozen=True)
class Seen:
    """An object of a picture.

    Attributes:
        class_index: Index into `CLASSES`.
        mask: (H, W) bool, its visible pixels.
    """

    class_index: int
    mask: BoolArray

    @cached_property
    def box(self) -> tuple[int, int, int, int]:
        """Return the smallest box x1, y1, x2, y2 around the visible pixels, its right and lower edges beyond them."""
        (rows,), (columns,) = (np.nonzero(self.mask.any(axis=axis)) for axis in (1, 0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@dataclass(frozen=True)
class Crowd:
    """A picture (H, W, 3) uint8 RGB, and its objects, the front-most first."""

    image: UInt8Array
    objects: tuple[Seen, ...]


def sample_crowd(seed: int) -> Layout:
    """Choose everything of a crowd except its resolution; the same seed gives the same layout, on any machine."""
    rng = np.random.default_rng([seed, 1, 2])
    middle = rng.uniform(0.3, 0.7)
    taken: list[tuple[FloatingArray, float]] = []
    items: list[Item] = []
    for _ in range(rng.integers(1 + MOST)):
        radius = float(np.exp(rng.uniform(*np.log(RADII))))
        class_index = None if rng.random() < DISTRACTORS else int(rng.integers(len(CLASSES)))
        centre = place(rng, radius, taken, INSIDE)
        if all(np.hypot(*(centre - other)) >= APART * (radius + size) for other, size in taken):
            taken.append((centre, radius))
            luma = rng.choice(sides_of(middle)) + rng.uniform(-0.05, 0.05)
            items.append(make_item(rng, class_index, centre, radius, luma))
    return Layout(make_texture(rng, middle, 0.08), tuple(reversed(items)))


def draw_objects(layout: Layout, size: tuple[int, int] = SIZE) -> Crowd:
    """Draw a layout on a canvas of `size` = (H, W) pixels, each of its objects by itself."""
    image, objects = draw(layout, size)
    return Crowd(image, tuple(Seen(index, mask) for index, mask in objects if mask.sum() >= LEAST))


def draw_crowd(seed: int, size: tuple[int, int] = SIZE) -> Crowd:
    """Sample the layout of a crowd and draw it on a canvas of `size` = (H, W) pixels."""
    return draw_objects(sample_crowd(seed), size)
