"""Test-time smoothing: other views of a picture, whose maps are averaged with that of the picture itself."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.runtime.arguments import listed

SMOOTHINGS = ("flip", "noise")
NOISY = 4  # noisy views beside the clean one
NOISE = 0.1  # standard deviation, of the range of x; SmoothGrad (arXiv 1706.03825) finds 0.1 to 0.2 best
SEED = 0  # the same picture gives the same maps


class View(NamedTuple):
    """A view of a picture.

    Attributes:
        x: (C, H, W).
        back: Maps a map (H, W) of the view back onto the picture.
    """

    x: Float32Array
    back: Callable[[Array], Array]


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
        yield View(seen, lambda m: m)
        if "flip" in smooth:
            yield View(np.ascontiguousarray(seen[..., ::-1]), lambda m: m[..., ::-1])
