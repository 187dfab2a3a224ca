import io

import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.decode import decode_image
from fusioncam.runtime.photos.given import open_given


def by_pillow(data):
    """RGB as Pillow reads it: turned as the file says, alpha dropped, 16 bits scaled to 8."""
    image, ops = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.ImageOps")
    picture = ops.exif_transpose(image.open(io.BytesIO(data)))
    if picture.mode in ("I;16", "I;16B", "I"):
        return np.repeat(np.rint(np.asarray(picture) / 257)[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA", "P", "RGBa"):
        picture = picture.convert("RGBA")
    return np.asarray(picture if picture.mode == "RGBA" else picture.convert("RGB"), np.float64)[..., :3]


@pytest.fixture(scope="session")
def assert_as_pillow():
    """Compares a decoded file with Pillow's reading of it, and with what a PIL image of it is explained as."""

    def assert_as_pillow(data, tolerance=1.0):
        """Differences of 1 are how a conversion of colours or of 16 bits is rounded."""
        found, expected = decode_image(data, "it", 10_000), by_pillow(data)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= tolerance
        opened = open_given(pytest.importorskip("PIL.Image").open(io.BytesIO(data)), Preprocessing(size=(1, 1))).values
        assert np.abs(found.astype(int) - opened).max() <= tolerance

    return assert_as_pillow
