"""Pictures in, model input out: reading files, normalising as the model was trained, and the way back for display."""

import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from fusioncam.errors import ImageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.geometry import display_image as display_image
from fusioncam.runtime.geometry import visible_part as visible_part

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30

UInt8Array: TypeAlias = NDArray[np.uint8]
Float32Array: TypeAlias = NDArray[np.float32]
ImageLike: TypeAlias = str | os.PathLike[str] | UInt8Array | Float32Array

_PNG = b"\x89PNG\r\n\x1a\n"
# These hold 10 or 12 bits a sample, which OpenCV hands out unscaled in 16: asked for 8 bits, it scales them itself.
_JPEG_2000 = b"jP  "
_DEEP_CONTAINERS = (b"ftyp", _JPEG_2000)
# What is decoded need not be what `_SIZES` finds, if somebody wants that: TIFF's tags may come in other types and any
# order. JPEG 2000 holds its size twice.
_MAY_LIE = (b"II*\0", b"MM\0*")
# The log level belongs to the whole process, so two decodes must not change it at the same time.
_DECODER = threading.Lock()


def _big(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "big"), int.from_bytes(second, "big")


def _little(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")


def _signed(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little", signed=True), int.from_bytes(second, "little", signed=True)


def _less_one(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little") + 1, int.from_bytes(second, "little") + 1


def _webp_lossless(packed: bytes, _: bytes) -> tuple[int, int]:
    bits = int.from_bytes(packed, "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


# Where each format that can blow a small file up to a huge picture declares its size: (how the file begins, the two
# fields, how they are read). OpenCV's own limit is read once, when the library is loaded, so it cannot be relied on. A
# JPEG or TIFF may hold a thumbnail too: the largest size found is the one that counts.
_SIZES: tuple[tuple[bytes, bytes, Callable[[bytes, bytes], tuple[int, int]]], ...] = (
    (_PNG, rb"\A.{12}IHDR(.{4})(.{4})", _big),
    (b"\xff\xd8\xff", rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]\x00[\x0b\x11\x14][\x08\x0c](..)(..)", _big),
    (b"GIF8", rb"\AGIF8[79]a(..)(..)", _little),
    (b"BM", rb"\ABM.{4}\x00{4}.{8}(.{4})(.{4})", _signed),
    (b"RIFF", rb"\A.{8}WEBPVP8X.{8}(.{3})(.{3})", _less_one),
    (b"RIFF", rb"\A.{8}WEBPVP8 .{7}\x9d\x01\x2a(..)(..)", _little),
    (b"RIFF", rb"\A.{8}WEBPVP8L.{4}\x2f(.{4})()", _webp_lossless),
    (b"II*\0", rb"\x00\x01[\x03\x04]\x00\x01\x00{3}(.{4})\x01\x01[\x03\x04]\x00\x01\x00{3}(.{4})", _little),
    (b"MM\0*", rb"\x01\x00\x00\x03\x00{3}\x01(..)..\x01\x01\x00\x03\x00{3}\x01(..)", _big),
    (b"MM\0*", rb"\x01\x00\x00\x04\x00{3}\x01(.{4})\x01\x01\x00\x04\x00{3}\x01(.{4})", _big),
    (b"\0\0\0", rb"ihdr(.{4})(.{4})", _big),
    (b"\0\0\0", rb"ispe\x00{4}(.{4})(.{4})", _big),
)


def _declared_pixels(data: bytes) -> int:
    """Pixels the file says it holds, 0 where it is of a format outside the table."""
    sizes = (
        read(*found)
        for head, pattern, read in _SIZES
        if data.startswith(head)
        for found in re.findall(pattern, data, re.DOTALL)
    )
    return max((abs(first * second) for first, second in sizes), default=0)


def _png_is_whole(data: bytes) -> bool:
    """Walks the chunks up to IEND: libpng writes to stderr about a bad one before OpenCV can report it."""
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 8 + length
        if data[end : end + 4] != zlib.crc32(memoryview(data)[at + 4 : end]).to_bytes(4, "big"):
            return False
        if kind == b"IEND":
            return True
        at = end + 4
    return False


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


def _decode(data: bytes) -> NDArray[np.generic] | None:
    """(H, W, 3) BGR of whatever depth the file has, or None; without a word on stderr.

    BGR on purpose: with IMREAD_COLOR_RGB, OpenCV 5.0 leaves 16-bit TIFF and AVIF with alpha in BGR order.
    """
    if data.startswith(_PNG) and not _png_is_whole(data):
        return None
    depth = 0 if data[4:8] in _DEEP_CONTAINERS else cv2.IMREAD_ANYDEPTH
    with _DECODER:
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | depth)
        except cv2.error:
            return None
        finally:
            cv2.utils.logging.setLogLevel(before)


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
            16 bits, or it declares more than MAX_PIXELS (judged before anything is decoded).
    """
    return decode_image(_load(Path(path)), repr(os.fspath(path)), MAX_PIXELS)


def decode_image(data: bytes, name: str, max_pixels: int, *, declared: bool = False) -> UInt8Array:
    """Decodes a picture as `read_image` does.

    Args:
        data: A file of any format OpenCV decodes.
        name: What errors call it.
        max_pixels: The most it may hold, judged before anything is decoded.
        declared: Whether to refuse formats that do not say how many that is, or may say less than there are: for files
            of strangers.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: It is no picture, is damaged or cut short, has pixels of neither 8 nor 16 bits, or too many.
    """
    if not data:
        raise ImageError(f"{name} is empty: copy or download the picture again")
    pixels = _declared_pixels(data)
    if declared and (not pixels or data.startswith(_MAY_LIE) or data[4:8] == _JPEG_2000):
        raise ImageError(f"{name} is not a picture of a format taken here: save it again as PNG or JPEG")
    decoded = _decode(data) if pixels <= max_pixels else None
    if decoded is not None:
        pixels = decoded.shape[0] * decoded.shape[1]
    if pixels > max_pixels:
        raise ImageError(f"{name} has {pixels:,} pixels, the limit is {max_pixels:,}: shrink it first")
    if decoded is None:
        raise ImageError(f"{name} is not a picture, or is damaged or cut short: save it again as PNG or JPEG")
    if decoded.dtype == np.uint16:
        decoded = cv2.convertScaleAbs(decoded.astype(np.uint16, copy=False), alpha=1 / 257)
    if decoded.dtype != np.uint8:
        raise ImageError(f"{name} has {decoded.dtype} pixels, whose range is unknown: save it with 8 or 16 bits")
    return cv2.cvtColor(decoded.astype(np.uint8, copy=False), cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


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
