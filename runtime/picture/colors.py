"""Colours of values: of maps from 0 to 1, and of differences from -1 to 1."""

import cv2
import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import UInt8Array

COLORMAPS = {
    "cividis": cv2.COLORMAP_CIVIDIS,
    "inferno": cv2.COLORMAP_INFERNO,
    "jet": cv2.COLORMAP_JET,
    "magma": cv2.COLORMAP_MAGMA,
    "plasma": cv2.COLORMAP_PLASMA,
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
}
# The brightness steps of plasma are even, and none of its colours is common in photos. People are used to jet, but its
# steps are uneven, and colour-blind people cannot tell its colours apart.
DEFAULT_COLORMAP = "plasma"

# Of differences, from 0 (where they are transparent) to 1: blue against, orange for. Colour-blind people can tell these
# two apart (Okabe and Ito, "Color universal design", 2008), and both are about equally dark at every step, so that
# neither side of a difference looks stronger.
_AGAINST = (70, 155, 220), (0, 88, 165)
_FOR = (232, 118, 38), (155, 55, 0)


def color_table(colormap: str) -> UInt8Array:
    """Return the colours (256, 3) RGB of a map from 0 to 1; raises UsageError where there is no such colour map."""
    bgr = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], colormap_code(colormap))
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)[0], np.uint8)


def colormap_code(name: str) -> int:
    """Return OpenCV's number of a colour map; raises UsageError where there is no such colour map."""
    if not isinstance(name, str) or name not in COLORMAPS:
        raise UsageError(f"no colour map {name!r}: choose one of {', '.join(COLORMAPS)}")
    return COLORMAPS[name]


def difference_tables() -> tuple[UInt8Array, UInt8Array]:
    """Return the colours (256, 3) RGB of differences from 0 to -1, and from 0 to 1."""
    share = np.linspace(0, 1, 256)[:, None]
    against, for_it = (
        np.rint((1 - share) * light + share * dark).astype(np.uint8)
        for light, dark in (np.array(ends, np.float64) for ends in (_AGAINST, _FOR))
    )
    return against, for_it
