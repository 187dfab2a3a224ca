"""Photos to calibrate on, and the bundles that they make."""

import numpy as np
import pytest

from fusioncam.export import export_model

RAW = {"preset": "raw", "mean": (127.5, 127.5, 127.5), "std": (64.0, 64.0, 64.0)}


def draw(prep, count=6, seed=0, factor=1.0):
    """Patches of colour under a bright blob, preprocessed."""
    rng = np.random.default_rng(seed)
    height, width = prep.size
    y, x = np.mgrid[:height, :width] / max(prep.size)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (prep.mean, prep.std))
    for _ in range(count):
        a, b = rng.uniform(0.2, 0.8, 2)
        blob = np.exp(-((y - a) ** 2 + (x - b) ** 2) / rng.uniform(0.01, 0.1))
        patches = rng.uniform(0, 255, (3, height, width)).repeat(4, 1).repeat(4, 2)[:, :height, :width]
        pixels = np.clip(patches + rng.uniform(-200, 200, (3, 1, 1)) * blob, 0, 255)
        yield (factor * (pixels * prep.rescale - mean) / std).astype(np.float32)


@pytest.fixture(scope="session")
def photos():
    """Draws photos: patches of colour under a bright blob, preprocessed."""
    return draw


@pytest.fixture(scope="session")
def raw():
    """The preprocessing of the drawn photos."""
    return RAW


@pytest.fixture
def quantised(tiny, tmp_path, photos):
    """The source, its float32 bundle and its int8 bundle."""
    source = tiny(size=(24, 32))
    export_model(source, tmp_path / "full.fcam", preprocessing=RAW)
    export_model(source, tmp_path / "int8.fcam", preprocessing=RAW, precision="int8", calibrate=photos)
    return source, tmp_path / "full.fcam", tmp_path / "int8.fcam"
