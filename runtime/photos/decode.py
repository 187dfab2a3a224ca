"""Pictures in, model input out: reading files, normalising as the model was trained, and the way back for display."""

import os
import stat
import threading
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np

from fusioncam.errors import LESS_MEMORY, ImageError, OutOfMemoryError, out_of_memory
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.formats import bounded, declared_pixels, is_deep, is_whole, keeps_its_word
from fusioncam.runtime.photos.formats.marks import partly_read
from fusioncam.runtime.photos.formats.mended import Mended, mended
from fusioncam.runtime.photos.geometry import display_image as display_image
from fusioncam.runtime.photos.geometry import visible_part as visible_part

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
BYTES_PER_PIXEL = 16  # what decoding takes at most: a progressive JPEG holds its coefficients beside the picture

ImageLike: TypeAlias = str | os.PathLike[str] | UInt8Array | Float32Array

DARK = 64  # of 255

# The log level belongs to the whole process, so two decodes must not change it at the same time.
_DECODER = threading.Lock()


def _load(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        ImageError: It does not exist, is a folder or a device, is too big, or may not be read.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{str(path)!r} is a folder, not a picture: name the files in it")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{str(path)!r} is not a regular file: copy the picture to a file first")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{str(path)!r} has {status.st_size:,} bytes, the limit is {MAX_BYTES:,}: shrink it first")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ImageError(f"there is no picture {str(path)!r}: check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {str(path)!r}: {reason}: check the path and its permissions") from error
    return data


def _decode(file: Mended) -> Array | None:
    """(H, W, 3) BGR of whatever depth the file has, or None; without a word on stderr.

    BGR on purpose: with IMREAD_COLOR_RGB, OpenCV 5.0 leaves 16-bit TIFF and AVIF with alpha in BGR order.

    Raises:
        OutOfMemoryError: There is not enough memory.
    """
    if not is_whole(file.data):
        return None
    # An AVIF is turned by its boxes, which `mended` sees to, never by EXIF.
    flags = cv2.IMREAD_COLOR | (cv2.IMREAD_IGNORE_ORIENTATION if is_deep(file.data) else cv2.IMREAD_ANYDEPTH)
    with _DECODER:
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            decoded = cv2.imdecode(np.frombuffer(file.data, np.uint8), cv2.IMREAD_UNCHANGED if file.raw else flags)
        except cv2.error as error:
            if (shortage := out_of_memory(error)) is not None:
                raise shortage from error
            return None
        finally:
            cv2.utils.logging.setLogLevel(before)
    return decoded if decoded is None or file.after is None else file.after(decoded)


def _there_was_memory(pixels: int) -> None:
    """OpenCV gives nothing at all where it lacks memory: whether it did is tried out.

    Raises:
        OutOfMemoryError: So much as decoding needs cannot be had.
    """
    try:
        np.empty(pixels * BYTES_PER_PIXEL, np.uint8)
    except MemoryError as error:
        raise OutOfMemoryError(f"out of memory; {LESS_MEMORY}") from error


def read_image(path: str | os.PathLike[str]) -> UInt8Array:
    """Reads a picture: EXIF orientation applied, grey spread over three channels, alpha dropped, 16 bits scaled to 8.

    A file that ends too early is refused whatever its format. Damage in the middle of a JPEG cannot be told from
    picture content, so such a file is read as OpenCV reads it.

    Args:
        path: A file of any format OpenCV decodes; of an animation or a multi-page file, the first picture is read.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: There is no such file, it is no picture, it is damaged or cut short, its pixels are neither 8 nor
            16 bits, it is of a kind that would be read wrong, or it declares more than MAX_PIXELS (judged before
            anything is decoded).
        OutOfMemoryError: There is not enough memory to decode it.
    """
    return decode_image(_load(Path(path)), repr(os.fspath(path)), MAX_PIXELS)


def read_mask(path: str | os.PathLike[str]) -> BoolArray:
    """Reads which pixels of a picture are not black, however little: a mask may hold numbers of objects in 16 bits.

    Args:
        path: As for `read_image`.

    Returns:
        (H, W) bool.

    Raises:
        ImageError, OutOfMemoryError: As for `read_image`.
    """
    pixels = _decoded(_load(Path(path)), repr(os.fspath(path)), MAX_PIXELS, declared=False)
    return np.asarray(pixels.any(axis=2), np.bool_)


def decode_image(data: bytes, name: str, max_pixels: int, *, declared: bool = False) -> UInt8Array:
    """Decodes a picture as `read_image` does.

    Args:
        data: A file of any format OpenCV decodes.
        name: What errors call it.
        max_pixels: The most it may hold, judged before anything is decoded.
        declared: Whether to refuse formats that do not say how many that is, or may say less than there are, and files
            that take far more work than so many pixels: for files of strangers.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: It is no picture, is damaged or cut short, has pixels of neither 8 nor 16 bits, or too many, or is
            refused by `declared`.
    """
    decoded = _decoded(data, name, max_pixels, declared)
    if decoded.dtype == np.uint16:
        decoded = cv2.convertScaleAbs(decoded.astype(np.uint16, copy=False), alpha=1 / 257)
    return cv2.cvtColor(decoded.astype(np.uint8, copy=False), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _decoded(data: bytes, name: str, max_pixels: int, declared: bool) -> Array:
    """(H, W, 3) BGR of 8 or 16 bits; arguments and errors as of `decode_image`."""
    if not data:
        raise ImageError(f"{name} is empty: copy or download the picture again")
    pixels = declared_pixels(data)
    if declared and not (pixels and keeps_its_word(data)):
        raise ImageError(f"{name} is not of a format taken here: save it again as PNG or JPEG")
    if declared and pixels <= max_pixels:
        data = bounded(data, name)
    file = mended(data)
    if file.refusal is not None:
        remedy = "" if ": " in file.refusal else ": save it again as PNG or JPEG"
        raise ImageError(f"{name} {file.refusal}{remedy}")
    decoded = _decode(file) if pixels <= max_pixels else None
    if decoded is not None:
        pixels = decoded.shape[0] * decoded.shape[1]
    if pixels > max_pixels:
        raise ImageError(f"{name} has {pixels:,} pixels, the limit is {max_pixels:,}: shrink it first")
    if decoded is None:
        _there_was_memory(pixels)
        some = f", or is {kind} of a kind that is not read here" if (kind := partly_read(data)) else ""
        raise ImageError(f"{name} is not a picture, or is damaged or cut short{some}: save it again as PNG or JPEG")
    if decoded.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} has {decoded.dtype} pixels, whose range is unknown: save it with 8 or 16 bits")
    return decoded


def _constants(preprocessing: Preprocessing) -> tuple[Float32Array, Float32Array, slice]:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return mean, std, slice(None, None, -1 if preprocessing.channel_order == "bgr" else 1)


def preprocess(image: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """Resizes a picture and normalises it: x = (pixel * rescale - mean) / std.

    Args:
        image: (H0, W0, 3) uint8 RGB.
        preprocessing: The model's own.

    Returns:
        x: (3, H, W) float32, C-contiguous, channels in the model's order.
    """
    mean, std, order = _constants(preprocessing)
    pixels = display_image(image, preprocessing).transpose(2, 0, 1)[order]
    return np.ascontiguousarray((pixels.astype(np.float32) * np.float32(preprocessing.rescale) - mean) / std)


def unpreprocess(x: Float32Array, preprocessing: Preprocessing) -> UInt8Array:
    """The picture behind a model input, for display: the inverse of `preprocess`, resizing apart.

    Args:
        x: (3, H, W) float32, channels in the model's order.
        preprocessing: The model's own.

    Returns:
        (H, W, 3) uint8 RGB, clipped to what a picture can hold.
    """
    mean, std, order = _constants(preprocessing)
    pixels = (x * std + mean) / np.float32(preprocessing.rescale)
    return np.ascontiguousarray(np.rint(pixels).clip(0, 255).astype(np.uint8)[order].transpose(1, 2, 0))


def is_dark(x: Float32Array, preprocessing: Preprocessing) -> bool:
    """Return whether no pixel of a model input is above a quarter of white.

    So come out values of 10 to 14 bits in a file of 16, which does not say how many it has.

    Args:
        x: (3, H, W) float32, channels in the model's order.
        preprocessing: The model's own.
    """
    return int(unpreprocess(x, preprocessing).max()) <= DARK


def as_input(image: ImageLike, preprocessing: Preprocessing) -> tuple[UInt8Array | None, Float32Array]:
    """Turns whatever a caller may pass into a model input.

    Args:
        image: A path, an (H0, W0, 3) uint8 RGB array, or a preprocessed float32 (3, H, W) or (1, 3, H, W) array.
        preprocessing: The model's own; (H, W) must be its size.

    Returns:
        photo: (H0, W0, 3) uint8 RGB, or None where the input came preprocessed.
        x: (3, H, W) float32, C-contiguous.

    Raises:
        ImageError: The file cannot be read, the array has another shape or type, or it holds NaN or infinity.
    """
    if isinstance(image, str | os.PathLike):
        image = read_image(image)
    height, width = preprocessing.size
    shape: tuple[int, ...] = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", None)
    if dtype == np.uint8 and len(shape) == 3 and shape[2] == 3 and 0 < shape[0] * shape[1] <= MAX_PIXELS:
        photo = np.ascontiguousarray(image, np.uint8)
        return photo, preprocess(photo, preprocessing)
    if dtype == np.float32 and shape in ((3, height, width), (1, 3, height, width)):
        x = np.ascontiguousarray(image, np.float32).reshape(3, height, width)
        if not np.isfinite(x).all():
            raise ImageError("the input array holds NaN or infinity: check how it was preprocessed")
        return None, x
    given = type(image).__name__ if dtype is None else f"a {dtype} array of shape {tuple(shape)}"
    raise ImageError(
        f"cannot explain {given}: pass a path, an (H, W, 3) uint8 RGB array of at most {MAX_PIXELS:,} pixels, "
        f"or a preprocessed float32 (3, {height}, {width}) array"
    )
