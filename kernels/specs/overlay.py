"""Spec of cuda/overlay.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.spec import Arguments, Parameter, Spec, blocks


def photos_and_maps(rng: np.random.Generator) -> Iterator[Arguments]:
    """Noise, under maps that leave [0, 1] or hold NaN here and there."""
    for n, pixels in ((1, 1), (1, 16), (2, 37), (3, 1000)):
        for opacity in (0.0, 0.7, 1.0):
            maps = rng.uniform(-0.2, 1.2, (n, pixels)).astype(np.float32)
            maps[0, 0] = np.nan
            yield {
                "photos": rng.integers(0, 256, (n, pixels, 3), np.uint8),
                "maps": maps,
                "colors": rng.integers(0, 256, (256, 3), np.uint8),
                "opacity": opacity,
            }


OVERLAY = Spec(
    name="overlay_maps",
    arrays={
        "photos": Parameter(np.uint8, ("N", "P", 3)),
        "maps": Parameter(np.float32, ("N", "P")),
        "colors": Parameter(np.uint8, (256, 3)),
        "out": Parameter(np.uint8, ("N", "P", 3), out=True),
    },
    sizes=("N", "P"),
    scalars={"opacity": np.float32},
    grid=lambda s: (blocks(s["P"], 256), s["N"], 1),
    block=256,
    reference=lambda photos, maps, colors, opacity: (reference.overlay(photos, maps, colors, opacity),),
    sample=photos_and_maps,
    tolerance=1,  # a colour may fall on the other side of a half
)
SPECS = (OVERLAY,)
