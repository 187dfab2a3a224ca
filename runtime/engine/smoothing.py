"""Test-time smoothing: other views of a picture, whose maps are averaged with that of the picture itself."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.runtime.arguments import listed
from fusioncam.runtime.picture_inputs import PictureInputs
from fusioncam.runtime.targets.resolved import ResolvedTarget

SMOOTHINGS = ("flip", "noise")
NOISY = 4  # noisy views beside the clean one
NOISE = 0.1  # standard deviation, of the range of x; SmoothGrad (arXiv 1706.03825) finds 0.1 to 0.2 best
SEED = 0  # the same picture gives the same maps


class View(NamedTuple):
    """A view of a picture.

    Attributes:
        x: (C, H, W).
        mirrored: Whether it is mirrored left to right.
    """

    x: Float32Array
    mirrored: bool = False

    def back(self, saliency: Array) -> Array:
        """Return a map (H, W) of the view as a map of the picture."""
        return saliency[..., ::-1] if self.mirrored else saliency

    def inputs(self, inputs: PictureInputs) -> PictureInputs:
        """Return further inputs of the picture as those of the view."""
        return inputs.mirrored() if self.mirrored else inputs

    def targets(self, targets: Sequence[ResolvedTarget]) -> list[ResolvedTarget]:
        """Return targets of the picture as targets of the view."""
        return [target.mirrored(self.x.shape[-1]) if self.mirrored else target for target in targets]


def mirror(x: Float32Array) -> View:
    """Return the view of x (C, H, W) mirrored left to right."""
    return View(np.ascontiguousarray(x[..., ::-1]), mirrored=True)


def checked_smoothing(smooth: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the views to take, each once; raise UsageError where there is none of a name."""
    names = listed(smooth, "smooth")
    for name in names:
        if name not in SMOOTHINGS:
            raise UsageError(f"no smoothing {name!r}; use {' or '.join(SMOOTHINGS)}")
    return tuple(dict.fromkeys(names))


def view_count(smooth: Sequence[str]) -> int:
    """Return the number of views."""
    return (2 if "flip" in smooth else 1) * (1 + NOISY if "noise" in smooth else 1)


def views(x: Float32Array, smooth: Sequence[str]) -> Iterator[View]:
    """Yield the picture itself, then the other views: mirrored, with noise, and both."""
    noise = np.random.default_rng(SEED)
    spread = NOISE * np.ptp(x)
    for n in range(1 + NOISY if "noise" in smooth else 1):
        seen = x if n == 0 else x + (spread * noise.standard_normal(x.shape)).astype(np.float32)
        yield View(seen)
        if "flip" in smooth:
            yield mirror(seen)
