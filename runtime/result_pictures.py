"""Pictures of a result: the panel of all maps, and one map on the whole photo."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import display_image, on_photo, visible_part, visible_slices
from fusioncam.runtime.picture import Badge, DrawOptions, difference_scale, overlay, overlay_difference, panel

SLIVER = 4  # longer over shorter side of a photo, from which on the panel shows the model's input instead


class Drawable(Protocol):
    """A result as pictures show it: an explanation, or the difference of two."""

    @property
    def maps(self) -> Mapping[str, Float32Array]:
        """Return the maps (H, W) by method."""

    @property
    def title(self) -> str:
        """Return the name of the class, or the question of a difference."""

    @property
    def between(self) -> tuple[str, str] | None:
        """Return the names of both classes where the maps are their difference."""

    @property
    def shown_probability(self) -> float | None:
        """Return the probability to show behind the headline."""

    @property
    def badge(self) -> Badge | None:
        """Return the verdict, where there is one."""

    @property
    def facts(self) -> Mapping[str, str]:
        """Return where the result comes from, a line each, by its label."""

    @property
    def notes(self) -> Sequence[str]:
        """Return the flags, each as a sentence."""


def panel_of(e: Drawable, photo: UInt8Array, preprocessing: Preprocessing, options: DrawOptions) -> UInt8Array:
    """Draw all maps of a result on the part of the photo that the model saw, or on its input for a sliver."""
    shown = visible_part(photo, preprocessing)
    if max(shown.shape[:2]) > SLIVER * min(shown.shape[:2]):
        shown = display_image(photo, preprocessing)
    return panel(
        shown, e.maps, e.title, e.shown_probability, e.notes, **asdict(options),
        between=e.between, facts=e.facts, verdict=e.badge,
    )  # fmt: skip


def map_on_photo(
    e: Drawable, method: str, photo: UInt8Array, preprocessing: Preprocessing, options: DrawOptions
) -> UInt8Array:
    """Draw one map on the photo at the photo's own resolution; parts that the model did not see are pale."""
    size = (photo.shape[0], photo.shape[1])
    seen, saliency = visible_slices(size, preprocessing), on_photo(e.maps[method], size, preprocessing)
    picture = photo // 3 + 170
    if e.between is not None:
        scale = difference_scale(e.maps[method])  # as on the panel
        picture[seen] = overlay_difference(photo[seen], saliency[seen], options.opacity, scale=scale)
    else:
        picture[seen] = overlay(photo[seen], saliency[seen], **asdict(options))
    return picture
