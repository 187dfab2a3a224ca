"""Bands of TIFFs, GeoTIFFs among them, read with tifffile: any number of them, of any type."""

import importlib
import io
import logging
import math
from typing import Any

from fusioncam.errors import ImageError, first_line, out_of_memory
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.photos.formats.npy import KINDS

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # errors come as exceptions, too


def read_bands(data: bytes, name: str, most: int) -> tuple[Array, int]:
    """Return the bands of a TIFF, and the axis that they lie on.

    They are the samples of its pixels, whether kept together or apart, or pages of equal size. Of several pictures in a
    file, such as overviews, the first counts.

    Args:
        data: The file.
        name: The file's name in errors.
        most: The greatest number of elements.

    Raises:
        ImageError: The file is damaged, too large, has more axes than bands, rows and columns, or needs a package that
            is missing.
        OutOfMemoryError: There is not enough memory.
    """
    try:
        tifffile: Any = importlib.import_module("tifffile")
    except ImportError as error:
        raise ImageError(
            f"bands of a TIFF such as {name} are read with tifffile: pip install 'fusioncam[tiff]', or save an .npy"
        ) from error
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as opened:
            series = opened.series[0]
            axes, shape, dtype = series.axes, series.shape, series.dtype
            others = [axis for axis, letter in enumerate(axes) if letter not in "YX"]
            if dtype.kind not in KINDS or len(others) > 1 or len(shape) != len(others) + 2:
                sizes = " x ".join(map(str, shape))
                raise ImageError(f"{name} is a TIFF of {sizes} {dtype} ({axes}), not of bands, rows and columns")
            count = math.prod(shape)
            if not 0 < count <= most:
                raise ImageError(f"{name} holds {count:,} numbers, the limit is {most:,}: shrink it first")
            array = series.asarray()
    except ImageError:
        raise
    except Exception as error:  # of tifffile, of its codecs, and of zlib
        raise out_of_memory(error) or ImageError(
            f"{name} cannot be read as a TIFF ({first_line(error)}): save it again, or as .npy"
        ) from error
    return (array, others[0]) if others else (array[..., None], 2)
