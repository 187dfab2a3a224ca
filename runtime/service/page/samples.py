"""Pictures to try on the page: those of a folder, or the drawn scenes that the built-in model knows."""

import logging
import threading
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.errors import ImageError, UsageError
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.output import encode_png
from fusioncam.runtime.demo.scenes import CLASSES, draw_scene, sample_picture
from fusioncam.runtime.photos.decode import decode_image
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.service.settings import Settings

MOST = 10  # samples
SIDE = 96  # pixels of a thumbnail
HEAD_ROOM = 4096  # bytes of a request besides the picture, at most
DRAWN = (0, 2), (6, 1), (2, 2), (3, 1)
"""Seeds and numbers of objects of the drawn scenes, after that of the demo."""

logger = logging.getLogger(__name__)

Read = Callable[[], bytes]


class Sample(NamedTuple):
    """A picture to try: its name, how to read its file, and its thumbnail as a PNG file."""

    name: str
    read: Read
    thumbnail: bytes


class Samples:
    """The samples of a service. They are read, and their thumbnails made, once they are first asked for.

    Args:
        settings: The folder, and the largest picture that the service takes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._lock = settings, threading.Lock()
        self._made: list[Sample] | None = None

    def all(self) -> list[Sample]:
        """Return the samples that can be read and that the service takes."""
        with self._lock:
            if self._made is None:
                folder = self._settings.samples
                files = drawn_scenes() if folder is None else [(file.name, file.read_bytes) for file in _chosen(folder)]
                self._made = [made for name, read in files if (made := self._sample(name, read)) is not None]
            return self._made

    def _sample(self, name: str, read: Callable[[], bytes]) -> Sample | None:
        try:
            data = read()
            if len(data) > self._settings.max_body - HEAD_ROOM:
                raise ImageError(f"{name} has {len(data):,} bytes: no request may have so many (--max-body)")
            picture = decode_image(data, name, self._settings.max_pixels, declared=True)
        except (ImageError, OSError) as error:
            logger.warning("left out of the samples: %s", error)
            return None
        return Sample(name, read, encode_png(_thumbnail(picture)))


@cache
def drawn_scenes() -> tuple[tuple[str, Read], ...]:
    """Return scenes of the demo's shapes by their objects, as PNG files; the first is that of `fusioncam demo`."""
    scenes = (sample_picture(), *(draw_scene(seed, (384, 384), objects) for seed, objects in DRAWN))
    return tuple((", ".join(CLASSES[c] for c in s.masks), partial(encode_png, s.image)) for s in scenes)


def _thumbnail(picture: UInt8Array) -> UInt8Array:
    """Return the middle square of a picture, small."""
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    square = picture[top : top + side, left : left + side]
    return np.asarray(cv2.resize(square, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def _chosen(folder: Path) -> list[Path]:
    """Return the photos of a folder and its subfolders, of many those at even distances; none where it is gone."""
    try:
        files = list(photos_of(folder, recursive=True).values())
    except UsageError as error:
        logger.warning("no samples: %s", error)
        return []
    chosen = np.unique(np.linspace(0, len(files) - 1, min(MOST, len(files))).round().astype(int))
    return [files[i] for i in chosen]
