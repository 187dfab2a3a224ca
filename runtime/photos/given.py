"""Pictures in the many forms that users have them: files, bytes, file objects, PIL images, arrays of any library."""

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Array, Size
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.arrays import described
from fusioncam.runtime.photos.decode import load_file
from fusioncam.runtime.photos.formats.nifti import affine_of
from fusioncam.runtime.photos.limits import MAX_BYTES, MAX_PIXELS
from fusioncam.runtime.photos.photo import Photo
from fusioncam.runtime.photos.reading import no_picture, picture_of, read_picture, taken

ADDRESS = re.compile(r"\s*([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # a letter alone is a drive of Windows
WEB = ("http", "https")
DEEP_FORMATS = ("PNG", "PPM")  # whose pixels of 16 bits Pillow gives as 32


class Readable(Protocol):
    """A file object that is open for reading bytes."""

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""


class ArrayLike(Protocol):
    """An array of any library: a tensor of torch, for one."""

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the array as NumPy's."""


class PixelBuffer(Protocol):
    """A picture that shows NumPy its memory, such as a PIL image."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Return the address and the shape of the memory."""


@dataclass(frozen=True, eq=False)
class Given:
    """A picture that was opened.

    Attributes:
        values: The picture as `picture_of` returns it, or a preprocessed array (C, H, W) float32.
        name: Path or name of the picture, where it has one.
        again: Returns the picture once more; None for a preprocessed array.
        on_disk: Whether that takes no memory meanwhile.
        affine: (4, 4), the affine of a NIfTI, from voxels to the scanner; None of any other form.
    """

    values: Array
    name: str | None = None
    again: Callable[[], Array] | None = None
    on_disk: bool = False
    affine: Array | None = None

    @classmethod
    def photo(cls, values: Array, name: str | None = None, affine: Array | None = None) -> Self:
        """Return a picture as `picture_of` returns it, which is kept in memory."""
        return cls(values, name, partial(np.asarray, values), affine=affine)

    @property
    def size(self) -> Size | None:
        """Return (H0, W0) of a photo; None for a preprocessed array."""
        return None if self.again is None else self.values.shape[:-1]


PhotoLike: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | Readable | ArrayLike | PixelBuffer | Array | Photo | Given
)


def is_single(images: Any, rank: int = 2) -> bool:
    """Return whether what was given as several pictures is a single one; an array of pictures has four axes.

    Args:
        images: What was given.
        rank: Number of axes of a picture without channels: 1 of a signal, 3 of a volume.
    """
    forms = (str, bytes, bytearray, memoryview, os.PathLike, Photo, Given)
    if isinstance(images, forms) or _is_pil(images) or hasattr(images, "read"):
        return True
    return getattr(images, "ndim", None) in (rank, rank + 1)


def open_given(image: Any, preprocessing: Preprocessing) -> Given:
    """Open a picture, whatever form it has.

    Args:
        image: See `as_input`; one that is open already stays as it is.
        preprocessing: The model's own.

    Raises:
        ImageError: The picture cannot be read, has no form of a picture, or could mean two things.
    """
    if isinstance(image, Given):
        return image
    if isinstance(image, Photo):
        given = open_given(image.pixels, preprocessing)
        return replace(given, name=given.name if image.name is None else _name(image.name))
    if isinstance(image, str | os.PathLike):
        return _of_path(image, preprocessing)
    if isinstance(image, memoryview):
        image = image.tobytes() if image.ndim == 1 and image.itemsize == 1 else np.asarray(image)
    if isinstance(image, bytes | bytearray):
        return _of_file(bytes(image), None, preprocessing)
    if _is_pil(image):
        return replace(
            _in_memory(_of_pil(image, preprocessing), preprocessing), name=_name(getattr(image, "filename", None))
        )
    if not isinstance(image, np.ndarray) and hasattr(image, "read"):
        return _of_file(_read(image), image, preprocessing)
    return _in_memory(image, preprocessing)


def _name(name: Any) -> str | None:
    """Return a name as text; None where there is none."""
    return None if name is None or name == "" else os.fsdecode(name) if isinstance(name, bytes) else str(name)


def _in_memory(image: Any, preprocessing: Preprocessing) -> Given:
    """Return a photo whose pixels are here, or a preprocessed array."""
    array = _as_array(image)
    if array is None:
        raise no_picture(type(image).__name__, preprocessing)
    encoded = array.ndim == 1 and array.dtype == np.uint8 and array.size
    if encoded and preprocessing.kind == "pictures":  # what cv2.imencode and numpy.fromfile return
        return _of_file(array.tobytes(), None, preprocessing)
    # Before all else: what fits the model's input exactly is taken for it.
    shape = preprocessing.shape
    if array.dtype == np.float32 and array.shape in (shape, (1, *shape)):
        x = np.ascontiguousarray(array, np.float32).reshape(shape)
        if not np.isfinite(x).all():
            raise ImageError("the input array holds NaN or infinity: check how it was preprocessed")
        return Given(x)
    values = taken(array, preprocessing)
    return Given.photo(values)


def _of_path(path: str | os.PathLike[str], preprocessing: Preprocessing) -> Given:
    name = os.fsdecode(path)
    if (address := ADDRESS.match(name)) is not None:  # which may hold secrets, so no error repeats it
        scheme = address[1].lower()
        remedy = "pass fusioncam.fetch_picture(address)" if scheme in WEB else "open it, and pass the file object"
        raise ImageError(f"what begins with {scheme}:// is an address: {remedy}, as nothing is fetched unasked")
    again, data = partial(read_picture, Path(name).absolute(), preprocessing), load_file(Path(name))
    values = picture_of(data, repr(name), preprocessing)
    return Given(values, name, again, on_disk=True, affine=affine_of(data))


def _of_file(data: bytes, file: Any, preprocessing: Preprocessing) -> Given:
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) and name else None
    if not data and file is not None:
        raise ImageError("the file object is empty or at its end: call its seek(0) first")
    called = "the data" if name is None else repr(name)
    decode = partial(picture_of, data, called, preprocessing)
    return Given(decode(), name, decode, affine=affine_of(data))


def _read(file: Any) -> bytes:
    """Read a file object to its end: pipes and sockets give less at a time than they are asked for."""
    pieces, room = list[bytes | bytearray | memoryview](), MAX_BYTES + 1
    while room > 0:
        try:
            piece = file.read(room)
        except (OSError, ValueError, TypeError) as error:
            raise ImageError(f"cannot read the file object: {error}: open it again, in binary mode") from error
        if not isinstance(piece, bytes | bytearray | memoryview):
            kind = type(piece).__name__
            raise ImageError(f"the file object gives {kind}, not bytes: open the file in binary mode, 'rb'")
        if not len(piece):
            return b"".join(pieces)
        pieces.append(piece)
        room -= len(piece)
    raise ImageError(f"the file object holds more than {MAX_BYTES:,} bytes: shrink the picture first")


def _is_pil(image: Any) -> bool:
    """Return whether a picture is one of Pillow's, which is imported then."""
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


def _of_pil(image: Any, preprocessing: Preprocessing) -> Array:
    """Return the pixels of a PIL image as the reader of files has them: turned by EXIF, and for photos without alpha.

    Raises:
        ImageError: The image is damaged or cut short, too large, or of a mode without a way to RGB.
    """
    from PIL import ImageOps

    if image.width * image.height > MAX_PIXELS:
        pixels = f"{image.width * image.height:,}"
        raise ImageError(f"the picture has {pixels} pixels, the limit is {MAX_PIXELS:,}: shrink it first")
    try:
        turned = ImageOps.exif_transpose(image)
        if turned.mode.startswith("I;16") or (turned.mode == "I" and image.format in DEEP_FORMATS):
            return np.asarray(turned).astype(np.uint16)
        bands = not preprocessing.takes_photos and turned.mode not in ("P", "PA", "1")
        if turned.mode in ("I", "F") or bands:
            return np.asarray(turned)
        # By way of RGBA, as Pillow has no other way from some modes, and warns of others.
        with_alpha = turned.mode in ("P", "PA", "LA", "La", "RGBa")
        return np.asarray((turned.convert("RGBA") if with_alpha else turned).convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:  # of Pillow's readers
        raise ImageError(f"Pillow cannot read the picture: {error}: save it again as PNG or JPEG") from error


def _as_array(image: Any) -> Array | None:
    """Return an array of any library as NumPy's; None for anything else.

    Raises:
        ImageError: The array cannot be read from here: it may lie on a GPU; or it has masked values.
    """
    if np.ma.is_masked(image):
        raise ImageError(f"{described(image)} has masked values, which are no colours: pass image.filled(value)")
    if isinstance(image, np.ndarray | type):
        return None if isinstance(image, type) else np.asarray(image)
    try:
        if hasattr(image, "__array__") or hasattr(image, "__array_interface__"):
            return np.asarray(image)
        if hasattr(image, "__dlpack__"):
            return np.asarray(np.from_dlpack(image))
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"cannot read {type(image).__name__} as an array: {reason}: pass a NumPy array") from error
    return None
