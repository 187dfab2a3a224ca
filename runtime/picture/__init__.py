"""Pictures of maps: laid over photos in several styles, and on a panel."""

from fusioncam.runtime.picture.colors import COLORMAPS, DEFAULT_COLORMAP, color_table
from fusioncam.runtime.picture.panel import MARGIN, panel
from fusioncam.runtime.picture.styles import (
    DEFAULT_OPACITY,
    DEFAULT_TOP,
    STYLES,
    DrawOptions,
    checked_opacity,
    overlay,
    overlay_difference,
)
from fusioncam.runtime.picture.titles import METHOD_TITLES, method_title

__all__ = [
    "COLORMAPS",
    "DEFAULT_COLORMAP",
    "DEFAULT_OPACITY",
    "DEFAULT_TOP",
    "MARGIN",
    "METHOD_TITLES",
    "STYLES",
    "DrawOptions",
    "checked_opacity",
    "color_table",
    "method_title",
    "overlay",
    "overlay_difference",
    "panel",
]
