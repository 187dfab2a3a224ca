"""TIFFs of bands, in the ways that programs for satellites and microscopes write them."""

import io
import sys

import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.formats.bands_tiff import read_bands
from fusioncam.runtime.photos.reading import picture_of

tifffile = pytest.importorskip("tifffile")
rng = np.random.default_rng(0)
GREY = {"photometric": "minisblack"}
WAYS = {
    "together": {**GREY, "planarconfig": "contig"},
    "apart": {**GREY, "planarconfig": "separate"},
    "deflate": {**GREY, "planarconfig": "separate", "compression": "deflate", "predictor": True},
    "tiles": {**GREY, "planarconfig": "contig", "tile": (16, 16)},
    "big": {**GREY, "planarconfig": "contig", "bigtiff": True},
}


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS)
def test_samples_of_pixels(way, kind):
    array = (rng.random((20, 24, 5)) * 250).astype(kind)
    apart = WAYS[way]["planarconfig"] == "separate"
    found, axis = read_bands(tiff(array.transpose(2, 0, 1) if apart else array, **WAYS[way]), "it", 1 << 20)
    assert found.dtype == kind
    np.testing.assert_array_equal(np.moveaxis(found, axis, -1), array)


def test_pages_and_a_single_band():
    pages = rng.integers(0, 60000, (7, 20, 24)).astype(np.uint16)
    found, axis = read_bands(tiff(pages, **GREY), "it", 1 << 20)
    np.testing.assert_array_equal(np.moveaxis(found, axis, 0), pages)
    found, axis = read_bands(tiff(pages[0], **GREY), "it", 1 << 20)
    np.testing.assert_array_equal(np.moveaxis(found, axis, 0), pages[:1])


def test_lzw_needs_imagecodecs():
    pytest.importorskip("imagecodecs")
    array = rng.integers(0, 9, (20, 24, 4)).astype(np.uint8)
    found, _ = read_bands(tiff(array, **WAYS["together"], compression="lzw"), "it", 1 << 20)
    np.testing.assert_array_equal(found, array)


WHOLE = tiff(rng.random((20, 24, 5)).astype(np.float32), **WAYS["together"])
BAD = {
    "cut short": (WHOLE[: len(WHOLE) // 2], "cannot be read as a TIFF"),
    "only a header": (b"II*\0" + bytes(8), "cannot be read as a TIFF"),
    "more axes": (tiff(np.zeros((3, 4, 8, 8), np.uint8), **GREY), "not of bands, rows and columns"),
    "complex": (tiff(np.zeros((8, 8), np.complex64), **GREY), "not of bands, rows and columns"),
    "too large": (tiff(np.zeros((101, 100), np.uint8), **GREY), "holds 10,100 numbers, the limit is 10,000: shrink it"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_holds_no_bands_is_refused(case):
    data, words = BAD[case]
    with pytest.raises(ImageError) as error:
        read_bands(data, "it", 10_000)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_without_tifffile_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"read with tifffile: pip install 'fusioncam\[tiff\]', or save an .npy"):
        read_bands(WHOLE, "it", 10_000)


def test_files_of_strangers_are_not_read():
    with pytest.raises(ImageError, match="is not of a supported format"):
        picture_of(WHOLE, "it", Preprocessing(size=(8, 8), mean=(0,) * 5), declared=True)
