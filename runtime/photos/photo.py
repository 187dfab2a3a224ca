"""A decoded photo with its name, so that a result can say what it explains."""

import os
from dataclasses import dataclass
from typing import Any

from fusioncam.kernels.arrays import UInt8Array


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded photo.

    Attributes:
        pixels: (H0, W0, 3) uint8 RGB.
        name: Path or name of the file; None where there is none.
    """

    pixels: UInt8Array
    name: str | None = None


def photo_name(image: Any) -> str | None:
    """Return the path or the name of a picture as it was given; None where it has none."""
    if isinstance(image, str | os.PathLike):
        return os.fspath(image)
    return image.name if isinstance(image, Photo) else None
