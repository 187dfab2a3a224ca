"""Pairs of drawn scenes that share one object, for training and tests of the demo's embedder.

The scene holds the shared object among others. The reference shows that object alone, elsewhere, turned, in another
size and before another ground: the same outline, colours and pattern, as a second photo of the same thing.
"""

from dataclasses import dataclass, replace

import numpy as np

from fusioncam.runtime.demo.scenes import SAMPLE_SEED, SIZE, Layout, Scene, compose, render, sample_layout

LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Pair:
    """Two scenes that share one object.

    Attributes:
        scene: The shared object, which nothing hides, and others.
        reference: The shared object, and nothing else.
        class_index: The class of the shared object: its mask is `masks[class_index]` of both scenes.
    """

    scene: Scene
    reference: Scene
    class_index: int


def sample_pair(seed: int, objects: int = 2) -> tuple[Layout, Layout]:
    """Choose the layouts of a scene with `objects` objects and of its reference; see `sample_layout` for the seed."""
    scene = sample_layout(seed, objects)
    shared = scene.items[-1]
    assert shared.class_index is not None  # objects stand before distractors
    rng = np.random.default_rng([seed, objects, 1])
    bright = float((shared.texture.colours @ LUMA).mean())
    middle = rng.choice([ground for ground in (bright - 0.33, bright + 0.33) if 0.15 <= ground <= 0.85])
    turned = replace(shared.texture, angle=rng.uniform(0.0, np.pi), phase=rng.uniform(0.0, 2 * np.pi))
    return scene, compose(rng, middle, [shared.class_index], turned, distractors=0)


def draw_pair(seed: int, size: tuple[int, int] = SIZE, objects: int = 2) -> Pair:
    """Sample the layouts of a pair and render both on canvases of `size` = (H, W) pixels."""
    scene, reference = (render(layout, size) for layout in sample_pair(seed, objects))
    return Pair(scene, reference, reference.class_index)


def sample_pair_pictures(size: tuple[int, int] = (384, 384)) -> Pair:
    """Draw the pair that the demo explains: the scene of `sample_picture`, and one of its objects alone."""
    return draw_pair(SAMPLE_SEED, size, objects=3)
