"""Pictures people look at: maps laid over photos in several styles, and the panel that holds them."""

from fusioncam.runtime.picture.colors import COLORMAPS, DEFAULT_COLORMAP, color_table, colormap_code
from fusioncam.runtime.picture.panel import MARGIN, panel
from fusioncam.runtime.picture.styles import (
    DEFAULT_OPACITY,
    DEFAULT_TOP,
    LEVELS,
    STYLES,
    Look,
    checked_opacity,
    checked_style,
    checked_top,
    overlay,
    overlay_difference,
    top_pixels,
)
from fusioncam.runtime.picture.titles import METHOD_TITLES, method_title

__all__ = [
    "COLORMAPS",
    "DEFAULT_COLORMAP",
    "DEFAULT_OPACITY",
    "DEFAULT_TOP",
    "LEVELS",
    "MARGIN",
    "METHOD_TITLES",
    "STYLES",
    "Look",
    "checked_opacity",
    "checked_style",
    "checked_top",
    "color_table",
    "colormap_code",
    "method_title",
    "overlay",
    "overlay_difference",
    "panel",
    "top_pixels",
]
