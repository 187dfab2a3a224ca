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
from fusioncam.runtime.demo.outlines import SHAPES, Outlines

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


def make_texture(rng: np.random.Generator, luma: float, spread: float) -> Texture:
    """Make a texture of random colours, whose brightness differs from `luma` by up to `spread`, and pattern."""
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


def place(
    rng: np.random.Generator, radius: float, taken: list[tuple[FloatingArray, float]], inside: float = 1.0
) -> FloatingArray:
    """Choose a centre (2,) in the unit square: the one of 24 that is furthest from the places taken.

    Args:
        rng: Chooses the 24.
        radius: That of the item.
        taken: Centres and radii of others.
        inside: Share of the radius that keeps off the border.
    """
    tries = rng.uniform(radius * inside, 1 - radius * inside, (24, 2))
    gaps = [np.hypot(*(tries - centre).T) - 0.9 * (radius + other) for centre, other in taken]
    return np.asarray(tries[np.argmax(np.min(gaps, axis=0, initial=0.0))])


def make_item(
    rng: np.random.Generator, class_index: int | None, centre: FloatingArray, radius: float, luma: float
) -> Item:
    """Make an item of a class, or a distractor, of random rotation, colours and texture."""
    shape = _blob(rng) if class_index is None else SHAPES[CLASSES[class_index]]
    angle = rng.uniform(0, 2 * np.pi)
    turn = radius * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return Item(class_index, tuple(outline @ turn + centre for outline in shape), make_texture(rng, luma, 0.12))


def sides_of(middle: float) -> list[float]:
    """Return the brightnesses that stand off from a ground of the brightness `middle`."""
    return [side for side in (middle - 0.33, middle + 0.33) if 0.1 <= side <= 0.9]


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
    sides = sides_of(middle)
    largest = 0.30 if len(classes) < 2 else 0.25
    taken: list[tuple[FloatingArray, float]] = []
    items: list[Item] = []
    for class_index in [*classes, *[None] * int(rng.integers(1 + distractors))]:
        radius = rng.uniform(0.16, largest)
        centre = place(rng, radius, taken)
        taken.append((centre, radius))
        item = make_item(rng, class_index, centre, radius, rng.choice(sides) + rng.uniform(-0.05, 0.05))
        items.append(item if texture is None or class_index is None else replace(item, texture=texture))
    return Layout(ground=make_texture(rng, middle, 0.08), items=tuple(reversed(items)))


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


def draw(layout: Layout, size: tuple[int, int] = SIZE) -> tuple[UInt8Array, list[tuple[int, BoolArray]]]:
    """Draw a layout on a canvas of `size` = (H, W) pixels.

    Returns:
        The image (H, W, 3) RGB, and of each object, the front-most first, its class and the (H, W) mask of its visible
        pixels; see `Scene`.
    """
    y, x = ((np.indices(size, np.float32)[axis] + 0.5) / size[axis] for axis in (0, 1))
    image = _paint(layout.ground, x, y)
    objects: list[tuple[int, BoolArray]] = []
    for item in layout.items:
        cover = _coverage(item.outlines, size)
        touched = cover > 0
        image[touched] += cover[touched, None] * (_paint(item.texture, x[touched], y[touched]) - image[touched])
        inside = cover > 0.5
        objects = [(index, mask & ~inside) for index, mask in objects]
        if item.class_index is not None:
            objects.insert(0, (item.class_index, inside))
    return np.rint(image * 255).astype(np.uint8), objects


def render(layout: Layout, size: tuple[int, int] = SIZE) -> Scene:
    """Draw a layout, in which no class is twice, on a canvas of `size` = (H, W) pixels."""
    image, objects = draw(layout, size)
    return Scene(image, dict(objects))


def draw_scene(seed: int, size: tuple[int, int] = SIZE, objects: int = 1) -> Scene:
    """Sample a layout and render it on a canvas of `size` = (H, W) pixels; see `sample_layout`."""
    return render(sample_layout(seed, objects), size)


def sample_picture(size: tuple[int, int] = (384, 384)) -> Scene:
    """Draw the picture that the demo explains: three objects of three classes."""
    return draw_scene(SAMPLE_SEED, size, objects=3)
