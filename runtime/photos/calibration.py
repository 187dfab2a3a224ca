"""Photos to calibrate an int8 score graph on, from a folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from fusioncam.errors import ImageError, UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.photos.model_input import as_input

MOST = 64  # photos: bounds the time

Complain = Callable[[str], None]


def photos_in(
    folder: str | os.PathLike[str], complain: Complain | None = None
) -> Callable[[Preprocessing], Iterator[tuple[str, Float32Array]]]:
    """Return the photos of a folder as `export_model(..., precision="int8", calibrate=photos_in(folder))` takes them.

    The photos come sorted by name, with one in memory at a time. Of more than 64, 64 are taken at even distances.

    Args:
        folder: The folder; subfolders and hidden files are skipped.
        complain: Called once, with one line, for each photo that cannot be read; the photo is left out. Files that are
            no photos, such as annotations, are left out without a word.

    Returns:
        A function that takes a `Preprocessing` and yields the photos: file name, and (C, H, W) float32.

    Raises:
        UsageError: There is no such folder, it holds no photo, or none of its photos can be read (as they come).
    """
    photos_of(Path(folder), arrays=True)  # its errors come before any work
    bad: set[Path] = set()

    def photos(preprocessing: Preprocessing) -> Iterator[tuple[str, Float32Array]]:
        files = _files(Path(folder), arrays=not preprocessing.takes_photos)
        for file in files:
            if file in bad:
                continue
            try:
                x = as_input(file, preprocessing)[1]
            except ImageError as error:
                bad.add(file)
                if complain is not None:
                    complain(f"left out of the calibration: {error}")
                continue
            yield file.name, x
        if len(bad) == len(files):
            raise UsageError(f"no photo in {folder} can be read; calibrate on photos like those to be explained")

    return photos


def _files(folder: Path, arrays: bool) -> list[Path]:
    files = list(photos_of(folder, arrays=arrays).values())
    picked = np.unique(np.linspace(0, len(files) - 1, min(MOST, len(files))).round().astype(int))
    return [files[i] for i in picked]
