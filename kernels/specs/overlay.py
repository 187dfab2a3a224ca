"""Spec of cuda/overlay.cu."""

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.spec import Parameter, Spec, blocks

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
    tolerance=1,  # a colour may fall on the other side of a half
)
SPECS = (OVERLAY,)
