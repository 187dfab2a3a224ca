"""Pixels in and out: what C++ makes of a photo and of a map must be what Python makes of them."""

import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.photos.reading import in_channels
from fusioncam.runtime.picture import COLORMAPS, overlay

WAYS = {
    "squash": {},
    "crop": {"resize": "crop", "crop_fraction": 0.875},
    "bgr": {"channel_order": "bgr", "mean": (103.939, 116.779, 123.68), "std": (1.0, 2.5, 0.1)},
    "unit": {"rescale": 1 / 127.5, "mean": (1.0, 1.0, 1.0), "resize": "crop"},
    "down": {"resize": "crop", "crop_fraction": 0.875, "crop_rounding": "down", "interpolation": "bicubic"},
    "squash_crop": {"resize": "squash_crop", "crop_fraction": 0.875, "interpolation": "lanczos"},
    "crop_first": {"resize": "crop_first", "crop_fraction": 0.875, "crop_rounding": "down"},
    "nearest": {"resize": "crop_first", "crop_fraction": 0.7, "interpolation": "nearest"},
    "box": {"interpolation": "box", "resize": "crop", "crop_fraction": 0.6},
    "hamming": {"interpolation": "hamming"},
    "letterbox": {"resize": "letterbox", "rescale": 1 / 255},
    "corner": {"resize": "letterbox", "channel_order": "bgr", "pad": (3.25, 50.0, 200.0), "pad_place": "corner",
               "pad_rounding": "down"},
    "up": {"resize": "letterbox", "pad_rounding": "up", "interpolation": "bicubic"},
    "opencv": {"interpolation": "cv2-linear"},
    "grey letterbox": {"resize": "letterbox", "channel_order": "grey", "mean": (0.4,), "std": (0.2,), "pad": 9},
    "grey": {"channel_order": "grey", "mean": (0.4,), "std": (0.2,), "rescale": 1 / 255, "resize": "crop"},
}  # fmt: skip
# As the model's input; larger; smaller; twice as large; slivers; whole blocks of pixels; blocks of 2 x 2; others.
SIZES = [
    (24, 32), (50, 61), (7, 5), (48, 64), (1, 1), (300, 1), (1, 4000), (384, 384), (192, 256), (197, 1003), (900, 33),
]  # fmt: skip


@pytest.fixture(scope="module")
def graphs(make_graph, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ways")
    preprocessings = {way: Preprocessing(size=(24, 32), **given) for way, given in WAYS.items()}
    return {way: (make_graph(folder / f"{way}.onnx", p), p) for way, p in preprocessings.items()}


@pytest.mark.parametrize("way", WAYS)
def test_preprocesses_photos_of_any_size(driver, graphs, tmp_path, way):
    path, preprocessing = graphs[way]
    rng = np.random.default_rng(2)
    for size in SIZES:
        photo = rng.integers(0, 256, (*size, 3), np.uint8)
        photo.tofile(tmp_path / "photo")
        driver.done("preprocess", path, tmp_path / "photo", *size, tmp_path / "x")
        x = np.fromfile(tmp_path / "x", np.float32).reshape(preprocessing.shape)
        wanted = preprocess(in_channels(photo, preprocessing), preprocessing)
        np.testing.assert_allclose(x, wanted, atol=1e-5, rtol=1e-6, err_msg=str(size))


@pytest.mark.parametrize("way", ["squash", "crop", "down", "squash_crop", "crop_first", "nearest", "letterbox", "up"])
def test_puts_maps_on_photos_of_any_size(driver, graphs, tmp_path, way):
    path, preprocessing = graphs[way]
    saliency = np.random.default_rng(3).random((24, 32), np.float32)
    saliency.tofile(tmp_path / "map")
    for size in SIZES:
        driver.done("on_photo", path, tmp_path / "map", *size, tmp_path / "whole")
        whole = np.fromfile(tmp_path / "whole", np.float32).reshape(size)
        np.testing.assert_allclose(whole, on_photo(saliency, size, preprocessing), atol=1e-6, err_msg=str(size))


def draw(driver, folder, colormap):
    """An overlay by C++ and by Python."""
    rng = np.random.default_rng(4)
    photo = rng.integers(0, 256, (50, 70, 3), np.uint8)
    saliency = rng.uniform(-0.2, 1.2, (50, 70)).astype(np.float32)
    saliency[:3, :2] = ((0, 1), (np.nan, np.inf), (0.5 / 255, 1.5 / 255))
    photo.tofile(folder / "photo")
    saliency.tofile(folder / "map")
    driver.done("overlay", folder / "photo", 50, 70, folder / "map", 60, colormap, folder / "drawn")
    drawn = np.fromfile(folder / "drawn", np.uint8).reshape(photo.shape)
    return drawn, overlay(photo, saliency, colormap, 0.6)


def test_overlays_are_the_same_pictures(driver, tmp_path):
    np.testing.assert_array_equal(*draw(driver, tmp_path, "plasma"))


@pytest.mark.parametrize("colormap", COLORMAPS)
def test_colour_maps_of_opencv_are_the_same(opencv_driver, tmp_path, colormap):
    np.testing.assert_array_equal(*draw(opencv_driver, tmp_path, colormap))
