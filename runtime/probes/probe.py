"""The interface of a metric that asks the model: the pictures it asks about, and how it reads the answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple, TypeAlias

import numpy as np

from fusioncam.kernels.arrays import Float32Array, Int32Array
from fusioncam.runtime.probes.blur import blurred
from fusioncam.runtime.probes.measured import Measured

Key: TypeAlias = tuple[str | int, ...]  # of a picture: maps and metrics that name the same key share its pass
Maker: TypeAlias = Callable[[], Float32Array]
Known: TypeAlias = Mapping[Key, float]  # p_c of pictures

WHOLE, ZEROS, BLURRED = ("whole",), ("zeros",), ("blurred",)


class Probe(NamedTuple):
    """The question of a metric about one map: p_c of these pictures, which `read` turns into figures."""

    pictures: dict[Key, Maker]
    read: Callable[[Known], Measured]


@dataclass(frozen=True)
class Subject:
    """One picture, and all that its maps share.

    Attributes:
        x: The picture (C, H, W), preprocessed.
        steps: Steps of insertion and deletion.
        percentiles: Thresholds of ROAD.
        deviation: Standard deviation of the noise of ROAD.
        seed: Of that noise.
    """

    x: Float32Array
    steps: int
    percentiles: Sequence[int] = ()
    deviation: float = 0.0
    seed: int = 0

    @cached_property
    def shared(self) -> dict[Key, Maker]:
        """Return the makers of the pictures that are the same for every map."""
        x = self.x
        return {WHOLE: lambda: x, ZEROS: cache(lambda: np.zeros_like(x)), BLURRED: cache(lambda: blurred(x))}

    @cached_property
    def noise(self) -> Float32Array:
        """Return noise (C, H, W), the same for every map, so that maps are compared on equal terms."""
        drawn = np.random.default_rng(self.seed).standard_normal(self.x.shape, np.float32)
        return drawn * np.float32(self.deviation)


class Map:
    """A map E (H, W) of a picture, called `name`."""

    def __init__(self, name: str, saliency: Float32Array) -> None:
        self.name, self.saliency = name, saliency.astype(np.float32, copy=False)

    @cached_property
    def rank(self) -> Int32Array:
        """Return the place (H, W) of every pixel, the most salient first; equal ones from left to right, row by row."""
        order = np.argsort(-self.saliency, axis=None, kind="stable")
        rank = np.empty(order.size, np.int32)
        rank[order] = np.arange(order.size, dtype=np.int32)
        return rank.reshape(self.saliency.shape)
