"""Pictures of maps: laid over photos in several styles, and on a panel."""

from fusioncam.runtime.picture.chart import chart
from fusioncam.runtime.picture.colors import COLORMAPS, DEFAULT_COLORMAP, color_table
from fusioncam.runtime.picture.facts import Badge
from fusioncam.runtime.picture.legend import CAPTION
from fusioncam.runtime.picture.panel import MARGIN, panel, tile_of
from fusioncam.runtime.picture.projection import Projection, project
from fusioncam.runtime.picture.styles import (
    DEFAULT_OPACITY,
    DEFAULT_TOP,
    STYLES,
    DrawOptions,
    checked_opacity,
    difference_scale,
    lay,
    outlined,
    overlay,
    overlay_difference,
)
from fusioncam.runtime.picture.titles import METHOD_TITLES, method_title

__all__ = [
    "CAPTION",
    "COLORMAPS",
    "DEFAULT_COLORMAP",
    "DEFAULT_OPACITY",
    "DEFAULT_TOP",
    "MARGIN",
    "METHOD_TITLES",
    "STYLES",
    "Badge",
    "DrawOptions",
    "Projection",
    "chart",
    "checked_opacity",
    "color_table",
    "difference_scale",
    "lay",
    "method_title",
    "outlined",
    "overlay",
    "overlay_difference",
    "panel",
    "project",
    "tile_of",
]
