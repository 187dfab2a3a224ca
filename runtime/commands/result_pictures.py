"""Pictures of an explanation: the panel of all maps, and one map on the whole photo."""

from dataclasses import asdict

from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.difference import Difference
from fusioncam.runtime.explanation import Explanation, flag_text
from fusioncam.runtime.photos.geometry import display_image, on_photo, visible_part, visible_slices
from fusioncam.runtime.picture import DrawOptions, overlay, overlay_difference, panel

Result = Explanation | Difference

SLIVER = 4  # longer over shorter side of a photo, from which on the panel shows the model's input instead


def panel_of(e: Result, photo: UInt8Array, preprocessing: Preprocessing, options: DrawOptions) -> UInt8Array:
    """Draw all maps of an explanation on the part of the photo that the model saw, or on its input for a sliver."""
    shown = visible_part(photo, preprocessing)
    if max(shown.shape[:2]) > SLIVER * min(shown.shape[:2]):
        shown = display_image(photo, preprocessing)
    notes = [flag_text(flag) for flag in e.flags]
    if isinstance(e, Difference):
        return panel(shown, e.maps, e.title, None, [chances(e), *notes], opacity=options.opacity, between=e.names)
    verdict = e.verdict.notes if e.verdict else ()
    return panel(shown, e.maps, e.title, e.probability, [*verdict, *notes], **asdict(options))


def map_on_photo(
    e: Result, method: str, photo: UInt8Array, preprocessing: Preprocessing, options: DrawOptions
) -> UInt8Array:
    """Draw one map on the photo at the photo's own resolution; parts that the model did not see are pale."""
    size = (photo.shape[0], photo.shape[1])
    seen, saliency = visible_slices(size, preprocessing), on_photo(e.maps[method], size, preprocessing)
    picture = photo // 3 + 170
    if isinstance(e, Difference):
        picture[seen] = overlay_difference(photo[seen], saliency[seen], options.opacity)
    else:
        picture[seen] = overlay(photo[seen], saliency[seen], **asdict(options))
    return picture


def chances(e: Result) -> str:
    """Return the name of the class and its probability, in a line; of both classes for a difference."""
    if isinstance(e, Difference):
        pairs = zip(e.names, (e.first.probability, e.second.probability), strict=True)
        return ", ".join(f"{name} {probability:.2f}" for name, probability in pairs)
    return f"{e.title} {e.probability:.2f}"
