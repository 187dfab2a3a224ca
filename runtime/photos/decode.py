"""Picture files read with OpenCV, into pixels as their authors meant them."""

import os
import stat
import threading
from pathlib import Path

import cv2
import numpy as np

from fusioncam.errors import LESS_MEMORY, ImageError, OutOfMemoryError, out_of_memory
from fusioncam.kernels.arrays import Array, BoolArray, UInt8Array
from fusioncam.runtime.photos.formats.jpeg import JPEG, is_whole_jpeg
from fusioncam.runtime.photos.formats.png import PNG, is_whole_png
from fusioncam.runtime.photos.formats.repair import Repair, repair
from fusioncam.runtime.photos.formats.signatures import partly_supported_format
from fusioncam.runtime.photos.headers import declared_pixels, declares_true_size, is_deep
from fusioncam.runtime.photos.limits import MAX_BYTES, MAX_PIXELS, bounded

BYTES_PER_PIXEL = 16  # memory of a decoder, at most: a progressive JPEG holds its coefficients beside the picture

# Files that OpenCV must not see unless they are whole.
_WHOLE = ((PNG, is_whole_png), (JPEG, is_whole_jpeg))

# The log level belongs to the whole process, so two decodes must not change it at the same time.
_DECODER = threading.Lock()
_LOGS, _SILENT = getattr(cv2.utils, "logging", cv2), 0  # OpenCV 4 has no room of its own for it


def read_image(path: str | os.PathLike[str]) -> UInt8Array:
    """Read a picture: EXIF orientation applied, grey spread over three channels, alpha dropped, 16 bits scaled to 8.

    A truncated file is refused, whatever its format. Damage in the middle of a JPEG looks like picture content, so such
    a file is read as OpenCV reads it.

    Args:
        path: A file of any format OpenCV decodes; of an animation or a multi-page file, the first picture is read.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: There is no such file, it is no picture, it is damaged or truncated, its pixels have neither 8 nor
            16 bits, OpenCV would read it wrong, or it declares more than MAX_PIXELS (checked before decoding).
        OutOfMemoryError: There is not enough memory to decode the file.
    """
    return decode_image(load_file(Path(path)), repr(os.fspath(path)), MAX_PIXELS)


def read_mask(path: str | os.PathLike[str]) -> BoolArray:
    """Read a mask: every pixel that is not black, however dark, as a mask may hold numbers of objects in 16 bits.

    Args:
        path: As for `read_image`.

    Returns:
        (H, W) bool.

    Raises:
        ImageError, OutOfMemoryError: As for `read_image`.
    """
    pixels = _decoded(load_file(Path(path)), repr(os.fspath(path)), MAX_PIXELS, declared=False)
    return np.asarray(pixels.any(axis=2), np.bool_)


def decode_image(data: bytes, name: str, max_pixels: int, *, declared: bool = False) -> UInt8Array:
    """Decode a picture as `read_image` does.

    Args:
        data: A file of any format OpenCV decodes.
        name: The file's name in errors.
        max_pixels: The greatest number of pixels, checked before decoding.
        declared: Whether to refuse, as for files of strangers, formats that declare no size or one that may be too
            small, and files that take far more work than their number of pixels explains.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: The data are no picture, damaged or truncated, have pixels of neither 8 nor 16 bits or too many of
            them, or `declared` refuses them.
    """
    decoded = _decoded(data, name, max_pixels, declared)
    if decoded.dtype == np.uint16:
        decoded = cv2.convertScaleAbs(decoded.astype(np.uint16, copy=False), alpha=1 / 257)
    return cv2.cvtColor(decoded.astype(np.uint8, copy=False), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def decode_channels(data: bytes, name: str, max_pixels: int, *, declared: bool = False) -> Array:
    """Decode a picture to (H, W, 1) of a grey file, else (H, W, 3) RGB, in the 8 or 16 bits of the file.

    Arguments and errors are those of `decode_image`.
    """
    decoded = _decoded(data, name, max_pixels, declared, colours=cv2.IMREAD_ANYCOLOR)
    return decoded[..., None] if decoded.ndim == 2 else decoded[..., ::-1]


def _decoded(data: bytes, name: str, max_pixels: int, declared: bool, colours: int = cv2.IMREAD_COLOR) -> Array:
    """Decode to (H, W, 3) BGR of 8 or 16 bits; arguments and errors are those of `decode_image`.

    With IMREAD_ANYCOLOR as `colours`, a grey file becomes (H, W).
    """
    if not data:
        raise ImageError(f"{name} is empty: copy or download the picture again")
    pixels = declared_pixels(data)
    if declared and not (pixels and declares_true_size(data)):
        raise ImageError(f"{name} is not of a supported format: save it again as PNG or JPEG")
    if declared and pixels <= max_pixels:
        data = bounded(data, name)
    repaired = repair(data)
    if repaired.refusal is not None:
        remedy = "" if ": " in repaired.refusal else ": save it again as PNG or JPEG"
        raise ImageError(f"{name} {repaired.refusal}{remedy}")
    decoded = _run_decoder(repaired, colours) if pixels <= max_pixels else None
    if decoded is not None:
        pixels = decoded.shape[0] * decoded.shape[1]
    if pixels > max_pixels:
        raise ImageError(f"{name} has {pixels:,} pixels, the limit is {max_pixels:,}: shrink it first")
    if decoded is None:
        _require_memory(pixels)
        kind = partly_supported_format(data)
        unsupported = f", or is {kind} of a kind that is not supported" if kind else ""
        raise ImageError(
            f"{name} is not a picture, or is damaged or cut short{unsupported}: save it again as PNG or JPEG"
        )
    if decoded.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name} has {decoded.dtype} pixels, whose range is unknown: save it with 8 or 16 bits")
    return decoded


def load_file(path: Path) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        ImageError: The file does not exist, is a folder or a device, is too big, or may not be read.
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


def _run_decoder(file: Repair, colours: int) -> Array | None:
    """Decode with OpenCV, silently, to (H, W, 3) BGR of the file's own depth; None where OpenCV refuses the file.

    BGR on purpose: with IMREAD_COLOR_RGB, OpenCV 5.0 leaves 16-bit TIFF and AVIF with alpha in BGR order.

    Raises:
        OutOfMemoryError: There is not enough memory.
    """
    if any(file.data.startswith(mark) and not is_whole(file.data) for mark, is_whole in _WHOLE):
        return None
    # An AVIF is turned by its boxes, as `repair` does, never by EXIF.
    flags = colours | (cv2.IMREAD_IGNORE_ORIENTATION if is_deep(file.data) else cv2.IMREAD_ANYDEPTH)
    with _DECODER:
        before = _LOGS.setLogLevel(_SILENT)
        try:
            decoded = cv2.imdecode(np.frombuffer(file.data, np.uint8), cv2.IMREAD_UNCHANGED if file.raw else flags)
        except cv2.error as error:
            if (shortage := out_of_memory(error)) is not None:
                raise shortage from error
            return None
        finally:
            _LOGS.setLogLevel(before)
    return decoded if decoded is None or file.correct is None else file.correct(decoded)


def _require_memory(pixels: int) -> None:
    """Try to allocate the memory that decoding takes, as OpenCV does not say that it lacked memory.

    Raises:
        OutOfMemoryError: There is not enough memory.
    """
    try:
        np.empty(pixels * BYTES_PER_PIXEL, np.uint8)
    except MemoryError as error:
        raise OutOfMemoryError(f"out of memory; {LESS_MEMORY}") from error
