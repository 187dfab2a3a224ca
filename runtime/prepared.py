"""A picture made ready for the model, and what its results keep of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.free_size import PHOTO, Size
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.manifest import Manifest, Preprocessing
from fusioncam.runtime.photos.axes import full_size
from fusioncam.runtime.photos.display import drawable
from fusioncam.runtime.photos.geometry import display_image, shown_part
from fusioncam.runtime.photos.given import open_given
from fusioncam.runtime.photos.model_input import DARK, ImageLike, as_input, normalised, unpreprocess
from fusioncam.runtime.picture import tile_of


@dataclass(frozen=True, eq=False)
class ResultPhoto:
    """All that a result keeps of its photo: a small picture of it, and the way to its pixels.

    Attributes:
        shown: (h, w, 3) uint8 RGB, at most 400 pixels long: what a panel shows of the photo; of a preprocessed picture,
            the model's input. Of a signal its numbers (L, C), of a volume its slices (D, H, W, 3), at the model's size.
        name: Path or name of the picture; None where it has none.
        size: (H0, W0) of the photo; None for a preprocessed picture.
        again: Returns the photo once more, as `picture_of` does; None where it is not kept.
        affine: See `Given`.
    """

    shown: Array
    name: str | None = None
    size: Size | None = None
    again: Callable[[], Array] | None = None
    affine: Array | None = None

    def sharpest(self, preprocessing: Preprocessing) -> Array:
        """Return what a panel shows of the photo, at the photo's own resolution where it is kept and unchanged."""
        try:
            return shown_part(self.pixels(preprocessing), preprocessing)
        except FusionCamError:
            return self.shown

    def pixels(self, preprocessing: Preprocessing, image: ImageLike | None = None) -> Array:
        """Return the pixels (H0, W0, 3) of the photo, ready to draw on, see `drawable`.

        Args:
            preprocessing: That of the model.
            image: The photo, where it is not kept.

        Raises:
            UsageError: The photo is neither kept nor given, or is not the one that was explained.
            ImageError: Its file cannot be read any more.
        """
        given = None if image is None else open_given(image, preprocessing)
        again = self.again if given is None else given.again
        if again is None:
            raise UsageError(
                "the photo of this result is not kept: pass it, as photo=..., or explain with keep_photo=True "
                "(keep_photos=True for a batch)"
            )
        pixels = drawable(again(), preprocessing)
        if pixels.shape[:-1] != self.size or not np.array_equal(tile_of(shown_part(pixels, preprocessing)), self.shown):
            raise UsageError("this is not the photo that was explained, or it has changed since: explain it again")
        return pixels


@dataclass(frozen=True, eq=False)
class PreparedPicture:
    """A picture made ready for the model.

    Attributes:
        x: (C, H, W) float32, C-contiguous.
        photo: The part of the photo that results keep.
        dark: Whether all pixels of the input are below a quarter of white. Values of 10 to 14 bits in a file of 16
            bits, which does not declare their depth, look like that.
    """

    x: Float32Array
    photo: ResultPhoto
    dark: bool


def prepare(image: ImageLike | PreparedPicture, preprocessing: Preprocessing, keep: bool = False) -> PreparedPicture:
    """Make a picture in any form ready for the model.

    Args:
        image: See `as_input`; or one that is open already, or ready.
        preprocessing: The model's own.
        keep: Whether results keep a photo that is not on disk, with all of its pixels.

    Raises:
        ImageError: As of `as_input`.
    """
    if isinstance(image, PreparedPicture):
        return image
    given = open_given(image, preprocessing)
    if given.size is None:
        seen = unpreprocess(given.values, preprocessing)
        return PreparedPicture(given.values, ResultPhoto(seen, given.name), _is_dark(seen, preprocessing))
    seen = display_image(given.values, preprocessing)
    shown = tile_of(shown_part(drawable(given.values, preprocessing), preprocessing))
    photo = ResultPhoto(shown, given.name, given.size, given.again if keep or given.on_disk else None, given.affine)
    x = normalised(seen, preprocessing, given.size)
    return PreparedPicture(x, photo, _is_dark(seen, preprocessing))


def prepare_at(
    image: ImageLike | PreparedPicture, manifest: Manifest, size: Size | str | None, keep: bool = False
) -> PreparedPicture:
    """Make a picture in any form ready for one of the sizes that a model takes.

    Args:
        image: See `prepare`.
        manifest: The bundle's.
        size: (H, W); or `photo`, the largest within the photo's own, as the bundle's own is for a preprocessed picture;
            None for the bundle's own.
        keep: See `prepare`.

    Raises:
        ImageError: As of `as_input`.
    """
    preprocessing = manifest.preprocessing
    if size is None or isinstance(image, PreparedPicture):
        return prepare(image, preprocessing, keep)
    if size == PHOTO:
        image = open_given(image, preprocessing)
        size = preprocessing.size if image.size is None else size_of_photo(image.size, manifest)
    return prepare(image, preprocessing.model_copy(update={"size": size}), keep)


def input_at(image: ImageLike, manifest: Manifest, size: Size | str | None) -> tuple[Float32Array, ResultPhoto | None]:
    """Return a picture as the model takes it, see `prepare_at`, and its photo, which nobody draws."""
    if size is not None:
        picture = prepare_at(image, manifest, size)
        return picture.x, picture.photo
    photo, x = as_input(image, manifest.preprocessing)
    return x, None if photo is None else ResultPhoto(photo, size=(photo.shape[0], photo.shape[1]))


def size_of_photo(photo_size: Size, manifest: Manifest) -> Size:
    """Return the size of the input for a photo (H0, W0) at its own size, see `FreeSize.fitted`."""
    own, free = manifest.preprocessing, manifest.free_size
    return own.size if free is None else free.fitted(full_size(photo_size, own), own.size)


def _is_dark(seen: Array, preprocessing: Preprocessing) -> bool:
    return preprocessing.takes_photos and int(seen.max()) <= DARK
