"""The picture in a file, of any format, as a model takes it: colours, grey, or bands."""

import os
from pathlib import Path

import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Array, UInt8Array
from fusioncam.manifest import PLACES
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.arrays import described, pixels_of
from fusioncam.runtime.photos.bands import bands_of
from fusioncam.runtime.photos.decode import decode_channels, decode_image, load_file
from fusioncam.runtime.photos.fields import field_of
from fusioncam.runtime.photos.formats.bands_tiff import read_bands
from fusioncam.runtime.photos.formats.nifti import is_nifti, read_nifti
from fusioncam.runtime.photos.formats.npy import is_array_file, read_array
from fusioncam.runtime.photos.formats.tiff import is_tiff
from fusioncam.runtime.photos.limits import MAX_PIXELS

LUMA = (19595, 38470, 7471)  # of 65536: the shares of red, green and blue in Pillow's L (ITU-R BT.601)
ROWS = 1 << 20  # pixels whose luma is computed at a time


def read_picture(path: str | os.PathLike[str], preprocessing: Preprocessing) -> Array:
    """Return the picture in a file, see `picture_of`."""
    return picture_of(load_file(Path(path)), repr(os.fspath(path)), preprocessing)


def picture_of(
    data: bytes, name: str, preprocessing: Preprocessing, max_pixels: int = MAX_PIXELS, *, declared: bool = False
) -> Array:
    """Return the picture in the bytes of a file, as the model takes it.

    Args:
        data: A picture of any format OpenCV decodes, an .npy or .npz; for bands also any TIFF. A signal or a volume is
            an .npy or .npz, a volume also a NIfTI.
        name: The file's name in errors.
        preprocessing: The model's own.
        max_pixels: The greatest number of pixels.
        declared: Whether to refuse what is refused of strangers, see `decode_image`; any TIFF is.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, 1) uint8 grey; or (H, W, C) float32, the bands in the model's order. Of a signal
        (L, C), of a volume (D, H, W, C) float32.

    Raises:
        ImageError: The file cannot be read, or holds another number of bands.
        OutOfMemoryError: There is not enough memory.
    """
    most = max_pixels * max(preprocessing.channels, 3)
    if is_array_file(data):
        return taken(read_array(data, name, most), preprocessing, name)
    if preprocessing.kind != "pictures":
        if not (is_nifti(data) and preprocessing.kind == "volumes") or declared:
            kinds = "an .npy, an .npz or a NIfTI" if preprocessing.kind == "volumes" else "an .npy or an .npz"
            raise ImageError(f"{name} is no array: the model takes {preprocessing.kind}, give {kinds}")
        return field_of(read_nifti(data, name, most), preprocessing, name)
    if preprocessing.takes_photos:
        return in_channels(decode_image(data, name, max_pixels, declared=declared), preprocessing)
    if is_tiff(data) and not declared:
        array, axis = read_bands(data, name, most)
    else:
        array, axis = decode_channels(data, name, max_pixels, declared=declared), 2
    return bands_of(array, preprocessing, name, axis)


def taken(array: Array, preprocessing: Preprocessing, name: str | None = None) -> Array:
    """Return an array of pixels, see `pixels_of`, or of bands, see `bands_of`, as `picture_of` returns it.

    Raises:
        ImageError: It is no such array.
    """
    if preprocessing.kind != "pictures":
        return field_of(array, preprocessing, name)
    if not preprocessing.takes_photos:
        return bands_of(array, preprocessing, name)
    pixels = pixels_of(array)
    if pixels is None:
        raise no_picture(described(array), preprocessing, name)
    return in_channels(pixels, preprocessing)


def no_picture(kind: str, preprocessing: Preprocessing, name: str | None = None) -> ImageError:
    """Return the error for what is no picture: what the model takes."""
    called = f"{name} holds {kind}" if name else f"cannot explain {kind}"
    arrays = {"grey": "an (H, W) grey or (H, W, 3) RGB uint8 array", "rgb": "an (H, W, 3) uint8 RGB array"}
    order = "grey" if preprocessing.channel_order == "grey" else "rgb"
    letters = ", ".join(PLACES[len(preprocessing.size)])
    array = arrays[order] if preprocessing.takes_photos else f"an ({letters}, {preprocessing.channels}) array"
    shape = ", ".join(map(str, preprocessing.shape))
    return ImageError(
        f"{called}: pass a path, {array} of at most {MAX_PIXELS:,} pixels, or a preprocessed float32 ({shape}) array"
    )


def in_channels(pixels: UInt8Array, preprocessing: Preprocessing) -> UInt8Array:
    """Return a photo (H, W, 3) in the channels that the model takes; grey is (H, W, 1), as Pillow's L."""
    if preprocessing.channel_order != "grey":
        return pixels
    grey = np.empty((*pixels.shape[:2], 1), np.uint8)
    step = max(1, ROWS // pixels.shape[1])
    for start in range(0, len(pixels), step):
        rows = slice(start, start + step)
        grey[rows, :, 0] = (pixels[rows].astype(np.uint32) @ np.array(LUMA, np.uint32) + 0x8000) >> 16
    return grey
