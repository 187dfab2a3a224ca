"""Spec of cuda/overlay.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.spec import Arguments, Parameter, Spec, blocks


def photo_and_map(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield noise, under a map that leaves [0, 1] and holds NaN."""
    for pixels in (1, 16, 37, 3000):
        for opacity in (0.0, 0.7, 1.0):
            saliency = rng.uniform(-0.2, 1.2, pixels).astype(np.float32)
            saliency[0] = np.nan
            yield {
                "photo": rng.integers(0, 256, (pixels, 3), np.uint8),
                "map": saliency,
                "colors": rng.integers(0, 256, (256, 3), np.uint8),
                "opacity": opacity,
            }


OVERLAY = Spec(
    name="overlay_map",
    arrays={
        "photo": Parameter(np.uint8, ("P", 3)),
        "map": Parameter(np.float32, ("P",)),
        "colors": Parameter(np.uint8, (256, 3)),
        "out": Parameter(np.uint8, ("P", 3), out=True),
    },
    sizes=("P",),
    scalars={"opacity": np.float32},
    grid=lambda s: (blocks(s["P"], 256), 1, 1),
    block=256,
    reference=lambda photo, map, colors, opacity: (reference.overlay(photo, map, colors, opacity),),
    sample=photo_and_map,
    tolerance=1,  # a colour may fall on the other side of a half
)
SPECS = (OVERLAY,)
