"""Files of NumPy: what they hold is checked before memory is taken, and nothing is unpickled."""

import io
import struct
import zipfile

import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.formats.npy import is_array_file, read_array

ARRAY = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(save=np.savez, **arrays):
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        npy(ARRAY), npy(np.asfortranarray(ARRAY)), npy(ARRAY.astype(">u2")), npz(a=ARRAY),
        npz(np.savez_compressed, bands=ARRAY), npz(image=ARRAY, other=np.zeros(3)),
    ],
)  # fmt: skip
def test_the_array_of_a_file(data):
    assert is_array_file(data)
    np.testing.assert_array_equal(read_array(data, "it", 24), ARRAY)


def header(shape, kind="<f4"):
    text = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(content):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", content)
    return file.getvalue()


BAD = {
    "too many numbers": (header((10**6, 10**6)), "holds 1,000,000,000,000 numbers, the limit is 100: shrink it"),
    "too many in an archive": (zipped(header((10**9,))), "holds 1,000,000,000 numbers"),
    "none": (npy(np.zeros((0, 3))), "holds 0 numbers"),
    "objects": (npy(np.array([{}], object), allow_pickle=True), "holds object, not real numbers"),
    "texts": (npy(np.array(["a"])), "not real numbers: save an array"),
    "complex": (npy(np.zeros(3, complex)), "holds complex128, not real numbers"),
    "cut short": (npy(ARRAY)[:-1], "is damaged or cut short: save the array again"),
    "a cut archive": (npz(a=ARRAY)[:-30], "is damaged or cut short"),
    "a cut header": (npy(ARRAY)[:20], "is damaged or cut short"),
    "a header that is no dictionary": (b"\x93NUMPY\x01\x00\x04\x00[[[[", "is damaged or cut short"),
    "a negative size": (header((-3, 5)), "numbers"),
    "several arrays": (npz(a=ARRAY, b=ARRAY), "holds 2 arrays ('a', 'b'): save one alone, or call it 'image'"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_array_of_numbers_is_refused(case):
    data, words = BAD[case]
    assert is_array_file(data)
    with pytest.raises(ImageError) as error:
        read_array(data, "it", 100)
    assert str(error.value).startswith("it ")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_other_archives_are_no_arrays():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.jpg", b"")
    assert not is_array_file(file.getvalue())
    assert not is_array_file(b"PK\x03\x04")
