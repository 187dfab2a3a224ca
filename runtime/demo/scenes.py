"""Drawn scenes whose objects are known to the pixel, for training and tests of the demo model.

A scene is a textured ground, some *objects* (each of one class, no class twice) and some *distractors* (irregular
blobs of no class). Position, size, rotation, colours and texture have the same distributions for every class, so only
the outline tells a star from a square, and a map that explains the class must lie on the object.

**Labels.** A scene holds any number of classes, and the model is trained with one yes/no target per class (is the
class in the picture?) rather than with one softmax target per picture. So the logit of a class stands for that class
alone: it rises with its own object, and hiding another object does not raise it. That makes its map checkable. The
softmax of such logits still names the class of a scene with one object. With several objects, the most certain classes
share it; without any object, all classes do.

**Resolution.** A `Layout` is in the unit square and holds no pixels. Rendering it on any canvas gives the same scene,
antialiased; a canvas that is not square shows it stretched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, FloatingArray, UInt8Array

Outlines = tuple[FloatingArray, ...]

SIZE = (96, 96)
"""Height and width of the demo model's input, in pixels."""

HELD_OUT = range(1_000_000)
"""Seeds for tests and figures; training draws its seeds from beyond them."""

SUPERSAMPLING = 4
SAMPLE_SEED = 2


@dataclass(frozen=True)
class Texture:
    """Two colours and the pattern that mixes them.

    Attributes:
        kind: A key of `PATTERNS`.
        colours: (2, 3) RGB in [0, 1].
        frequency: Periods per unit length.
        angle: Direction of the pattern, in radians.
        phase: Shift of the pattern, in radians.
    """

    kind: str
    colours: FloatingArray
    frequency: float
    angle: float
    phase: float


@dataclass(frozen=True)
class Item:
    """A textured item: an object, or a distractor where `class_index` is None.

    Attributes:
        class_index: Index into `CLASSES`.
        outlines: Closed polygons, each (P, 2) x, y in the unit square; filled by the even-odd rule.
        texture: The texture inside the outlines.
    """

    class_index: int | None
    outlines: Outlines
    texture: Texture


@dataclass(frozen=True)
class Layout:
    """A scene before it has pixels: the ground and the items, from back to front."""

    ground: Texture
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Scene:
    """A rendered layout.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        masks: For each class in the scene, the (H, W) bool mask of its object's visible pixels: those that the object
            covers by more than half. The front-most object comes first, and no two masks share a pixel.
    """

    image: UInt8Array
    masks: dict[int, BoolArray]

    @cached_property
    def class_index(self) -> int:
        """Return the class of the front-most object, which nothing hides; -1 without objects."""
        return next(iter(self.masks), -1)


def _round(radius: float = 1.0, x: float = 0.0) -> FloatingArray:
    """Return a circle as a (64, 2) polygon."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([x + radius * np.cos(t), radius * np.sin(t)], axis=1)


def _spiked(corners: int, inner: float) -> FloatingArray:
    """Return a polygon (2 * corners, 2) whose vertices lie in turn at radius 1 and at radius `inner`."""
    t = np.arange(2 * corners) * np.pi / corners
    radius = np.where(np.arange(2 * corners) % 2, inner, 1.0)
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def _cross(arm: float = 0.32) -> FloatingArray:
    """Return a plus sign (12, 2) with arms of half-width `arm`."""
    end = np.sqrt(1 - arm**2)
    quarter = np.array([[arm, arm], [arm, end], [-arm, end]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _crescent(bite: float = 0.45) -> FloatingArray:
    """Return a disc (128, 2) less an equal disc to its right; the two circles meet at the abscissa `bite`."""
    edge = np.arccos(bite)
    outer = np.linspace(edge, 2 * np.pi - edge, 96)
    inner = np.linspace(np.pi + edge, np.pi - edge, 32)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([2 * bite + np.cos(inner), np.sin(inner)], axis=1),
        ]
    )


def _heart() -> FloatingArray:
    """Return the usual heart curve as a (64, 2) polygon, scaled into the unit disc."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, y], axis=1) / 17


# Every outline fits the unit disc, so that one radius sizes them all.
SHAPES: dict[str, Outlines] = {
    "disc": (_round(),),
    "ring": (_round(), _round(0.5)),
    "crescent": (_crescent(),),
    "square": (_spiked(2, 1.0),),
    "triangle": (_spiked(3, 0.5),),
    "star": (_spiked(5, 0.42),),
    "cross": (_cross(),),
    "heart": (_heart(),),
}

CLASSES = tuple(SHAPES)


def _waves(x: FloatingArray, y: FloatingArray) -> FloatingArray:
    """Return marbled noise: plane waves in seven directions, of unrelated lengths."""
    turns = [(0.6 + 0.15 * k) * np.exp(1j * k) for k in range(7)]
    waves = [np.sin(float(t.real) * x + float(t.imag) * y + 2.4 * k) for k, t in enumerate(turns)]
    return np.asarray(sum(waves)) / 3


# A pattern maps coordinates in radians to the mix of the two colours: 0 is an even mix, -1 and 1 are pure.
PATTERNS: dict[str, Callable[[FloatingArray, FloatingArray], FloatingArray]] = {
    "plain": lambda x, y: 0.4 * np.sin(0.2 * x),
    "stripes": lambda x, y: 2.5 * np.sin(x),
    "checks": lambda x, y: 4.0 * np.sin(x) * np.sin(y),
    "dots": lambda x, y: 2.5 * (np.sin(x) + np.sin(y) - 0.7),
    "noise": _waves,
}


def _colours(rng: np.random.Generator, luma: float, spread: float) -> FloatingArray:
    """Return two colours (2, 3) of random hue, whose brightness differs from `luma` by up to `spread`."""
    hue = rng.uniform(0, 2 * np.pi) + np.array([0.0, rng.uniform(-1.0, 1.0)])
    tint = np.cos(hue[:, None] - np.array([0.0, 2.0, 4.0]) * np.pi / 3)
    tint -= tint @ np.array([[0.299], [0.587], [0.114]])  # a tint changes the hue and not the brightness
    level = luma + spread * rng.uniform(0.4, 1.0) * np.array([[-1.0], [1.0]])
    return np.clip(level + rng.uniform(0.1, 0.4) * tint, 0.0, 1.0)


def _texture(rng: np.random.Generator, luma: float, spread: float) -> Texture:
    return Texture(
        kind=str(rng.choice(list(PATTERNS))),
        colours=_colours(rng, luma, spread),
        frequency=rng.uniform(6.0, 14.0),
        angle=rng.uniform(0.0, np.pi),
        phase=rng.uniform(0.0, 2 * np.pi),
    )


def _blob(rng: np.random.Generator) -> Outlines:
    """Return an irregular outline (64, 2) that is none of the classes."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    lobes = np.arange(2, 6)[:, None]
    size = rng.uniform(0.1, 0.3, lobes.shape)
    radius = 1 + (size * np.cos(lobes * t + rng.uniform(0, 2 * np.pi, lobes.shape))).sum(axis=0)
    return (np.stack([np.cos(t), np.sin(t)], axis=1) * (radius / radius.max())[:, None],)


def _place(rng: np.random.Generator, radius: float, taken: list[tuple[FloatingArray, float]]) -> FloatingArray:
    """Choose a centre (2,) inside the unit square: the one of 24 that is furthest from the places taken."""
    tries = rng.uniform(radius, 1 - radius, (24, 2))
    gaps = [np.hypot(*(tries - centre).T) - 0.9 * (radius + other) for centre, other in taken]
    return np.asarray(tries[np.argmax(np.min(gaps, axis=0, initial=0.0))])


def _item(rng: np.random.Generator, class_index: int | None, centre: FloatingArray, radius: float, luma: float) -> Item:
    shape = _blob(rng) if class_index is None else SHAPES[CLASSES[class_index]]
    angle = rng.uniform(0, 2 * np.pi)
    turn = radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Item(class_index, tuple(outline @ turn + centre for outline in shape), _texture(rng, luma, 0.12))


def sample_layout(seed: int, objects: int = 1) -> Layout:
    """Choose everything of a scene except its resolution.

    Args:
        seed: The same seed and number of objects give the same layout, on any machine.
        objects: Number of objects, each of another class. Up to two distractors are added.

    Returns:
        The layout, distractors behind objects.
    """
    rng = np.random.default_rng([seed, objects])
    classes = rng.permutation(len(CLASSES))[:objects]
    return compose(rng, rng.uniform(0.3, 0.7), [int(index) for index in classes])


def compose(
    rng: np.random.Generator,
    middle: float,
    classes: Sequence[int],
    texture: Texture | None = None,
    distractors: int = 2,
) -> Layout:
    """Choose a layout whose ground has the brightness `middle` in [0, 1].

    Args:
        rng: Chooses everything that is not given.
        middle: The ground's brightness.
        classes: The class of each object, the front-most first.
        texture: That of every object; by default each has its own.
        distractors: How many there may be, behind the objects.
    """
    # Objects and distractors alike stand off from the ground, on its darker or its brighter side.
    sides = [side for side in (middle - 0.33, middle + 0.33) if 0.1 <= side <= 0.9]
    largest = 0.30 if len(classes) < 2 else 0.25
    taken: list[tuple[FloatingArray, float]] = []
    items: list[Item] = []
    for class_index in [*classes, *[None] * int(rng.integers(1 + distractors))]:
        radius = rng.uniform(0.16, largest)
        centre = _place(rng, radius, taken)
        taken.append((centre, radius))
        item = _item(rng, class_index, centre, radius, rng.choice(sides) + rng.uniform(-0.05, 0.05))
        items.append(item if texture is None or class_index is None else replace(item, texture=texture))
    return Layout(ground=_texture(rng, middle, 0.08), items=tuple(reversed(items)))


def _paint(texture: Texture, x: FloatingArray, y: FloatingArray) -> FloatingArray:
    """Return the colours (..., 3) in [0, 1] of a texture at points x, y (...) of the unit square."""
    cos, sin = (np.float32(2 * np.pi * texture.frequency * part(texture.angle)) for part in (np.cos, np.sin))
    phase = np.float32(texture.phase)
    mix = PATTERNS[texture.kind](cos * x + sin * y + phase, cos * y - sin * x + phase)
    first, second = texture.colours.astype(np.float32)
    share = 0.5 + 0.5 * np.clip(mix, -1, 1)[..., None]
    return np.asarray(first + share * (second - first))


def _coverage(outlines: Outlines, size: tuple[int, int]) -> FloatingArray:
    """Return the share of each pixel inside the outlines, (H, W) float32 in [0, 1].

    OpenCV also fills pixels that an edge touches, so every outline becomes wider by about 1/8 pixel a side.
    """
    height, width = size
    fine = np.zeros((height * SUPERSAMPLING, width * SUPERSAMPLING), np.uint8)
    # OpenCV counts from pixel centres and reads fixed-point coordinates, here in 1/16 of a fine pixel.
    points = [np.rint((outline * fine.shape[::-1] - 0.5) * 16).astype(np.int32) for outline in outlines]
    cv2.fillPoly(fine, points, 255, shift=4)
    return cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def render(layout: Layout, size: tuple[int, int] = SIZE) -> Scene:
    """Draw a layout on a canvas of `size` = (H, W) pixels."""
    y, x = ((np.indices(size, np.float32)[axis] + 0.5) / size[axis] for axis in (0, 1))
    image = _paint(layout.ground, x, y)
    masks: dict[int, BoolArray] = {}
    for item in layout.items:
        cover = _coverage(item.outlines, size)
        touched = cover > 0
        image[touched] += cover[touched, None] * (_paint(item.texture, x[touched], y[touched]) - image[touched])
        inside = cover > 0.5
        masks = {index: mask & ~inside for index, mask in masks.items()}
        if item.class_index is not None:
            masks = {item.class_index: inside, **masks}
    return Scene(np.rint(image * 255).astype(np.uint8), masks)


def draw_scene(seed: int, size: tuple[int, int] = SIZE, objects: int = 1) -> Scene:
    """Sample a layout and render it on a canvas of `size` = (H, W) pixels; see `sample_layout`."""
    return render(sample_layout(seed, objects), size)


def sample_picture(size: tuple[int, int] = (384, 384)) -> Scene:
    """Draw the picture that the demo explains: three objects of three classes."""
    return draw_scene(SAMPLE_SEED, size, objects=3)
