"""Small pictures of maps, for the report."""

from functools import partial

import cv2
import numpy as np

from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.evaluation.store.store import THUMBNAIL
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.photos.display import drawable
from fusioncam.runtime.photos.geometry import on_shown, visible_part
from fusioncam.runtime.photos.given import Given
from fusioncam.runtime.picture import outlined, overlay


def small_pictures(photo: Given, explanation: Explanation) -> dict[str, UInt8Array]:
    """Return the maps over the part of the photo that the model sees, at the size of thumbnails, with the region."""
    assert explanation.preprocessing is not None
    part = visible_part(drawable(photo.values, explanation.preprocessing), explanation.preprocessing)
    scale = min(1.0, THUMBNAIL / max(part.shape[:2]))
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    small = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)
    place = partial(on_shown, photo_size=photo.size, preprocessing=explanation.preprocessing)
    maps = {m: np.asarray(cv2.resize(place(e), size), np.float32).clip(0, 1) for m, e in explanation.maps.items()}
    drawn = {method: overlay(small, saliency) for method, saliency in maps.items()}
    if (share := explanation.region_share) is None:
        return drawn
    region = np.asarray(cv2.resize(place(share), size), np.float32)
    return {method: outlined(picture, region) for method, picture in drawn.items()}
