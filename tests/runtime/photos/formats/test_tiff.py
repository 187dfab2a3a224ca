"""Kinds of TIFF, each written byte by byte: read right, or refused by their name."""

import io
import struct

import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.decode import decode_image

HEIGHT, WIDTH = 34, 50


def noise(channels, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, channels), np.uint8)
    return np.asarray(np.repeat(np.repeat(coarse, 6, 0), 7, 1)[:HEIGHT, :WIDTH])


RGB, ALPHA = noise(3), noise(1, 1)
DEEP, RGBA = RGB.astype(np.uint16) * 257, np.dstack([RGB, ALPHA])


def tiff(pixels, *, order="<", photometric=2, planar=1, extra=(), kind=1, more=(), compression=1):
    """A TIFF of one strip; `more` are tags of one number each."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    bits = pixels.dtype.itemsize * 8
    stored = pixels.transpose(2, 0, 1) if planar == 2 else pixels
    body = stored.astype(pixels.dtype.newbyteorder(order)).tobytes()
    lists, entries = b"", []
    strips = samples if planar == 2 else 1
    size = len(body) // strips
    numbers = {256: [width], 257: [height], 258: [bits] * samples, 259: [compression], 262: [photometric],
               273: [8 + n * size for n in range(strips)], 277: [samples], 278: [height], 279: [size] * strips,
               284: [planar], 339: [kind] * samples, **({338: list(extra)} if extra else {}), **dict(more)}  # fmt: skip
    lists_at = 8 + len(body) + 2 + 12 * len(numbers) + 4
    for tag, values in sorted(numbers.items()):
        values = values if isinstance(values, list) else [values]
        inline = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            inline, lists = struct.pack(f"{order}I", lists_at + len(lists)), lists + inline
        # Of one number the field is as wide as all of it, so that a SHORT need not be told from a LONG.
        entries.append(struct.pack(f"{order}HHI", tag, 4, len(values)) + inline)
    directory = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(f"{order}I", 8 + len(body)) + body + directory + lists


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"pixels": RGB}, RGB),
        ({"pixels": RGBA, "extra": (2,)}, RGB),
        ({"pixels": RGBA, "extra": (0,)}, RGB),
        ({"pixels": RGBA, "extra": (2,), "planar": 2}, RGB),
        ({"pixels": RGB, "planar": 2}, RGB),
        ({"pixels": DEEP}, RGB),
        ({"pixels": np.dstack([DEEP, DEEP[..., :1]]), "extra": (2,)}, RGB),
        ({"pixels": RGB[..., 0], "photometric": 0}, np.repeat(255 - RGB[..., :1], 3, 2)),
    ],
    ids=["RGB", "RGBA", "RGBX", "RGBA apart", "apart", "16 bits", "RGBA of 16 bits", "white is 0"],
)
def test_kinds_of_tiff(given, expected, order):
    np.testing.assert_array_equal(decode_image(tiff(**given, order=order), "it", 10_000), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_tiff_multiplied_by_its_alpha_is_divided_by_it(assert_as_pillow, dtype):
    most = np.iinfo(dtype).max
    alpha = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 1) * most // (HEIGHT * WIDTH)).astype(np.int64)
    whole = RGB.astype(np.int64) * (most // 255)
    data = tiff(np.dstack([whole * alpha // most, alpha]).astype(dtype), extra=(1,))
    if dtype == np.uint8:
        assert_as_pillow(data, 0)
    clear = alpha[..., 0] > most // 4
    assert np.abs(decode_image(data, "it", 10_000).astype(int) - RGB)[clear].max() <= 5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.uint32])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_of_an_unknown_range_is_called_by_its_type(dtype, order, channels):
    pixels = (RGB if channels == 3 else RGB[..., 0]).astype(dtype)
    kind = {"f": 3, "i": 2, "u": 1}[np.dtype(dtype).kind]
    data = tiff(pixels, order=order, kind=kind, photometric=2 if channels == 3 else 1)
    with pytest.raises(
        ImageError, match=f"^it has {np.dtype(dtype)} pixels, whose range is unknown: save it with 8 or"
    ):
        decode_image(data, "it", 10_000)


def test_a_float_tiff_of_pillows():
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.fromarray(RGB[..., 0].astype(np.float32)).save(file, "TIFF")
    data = file.getvalue()
    with pytest.raises(ImageError, match=r"^it has float32 pixels, whose range is unknown"):
        decode_image(data, "it", 10_000)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"pixels": DEEP, "planar": 2}, "of 16 bits that keeps its channels apart"),
        ({"pixels": DEEP[..., 0], "photometric": 0}, "whose 0 is white"),
        ({"pixels": RGB, "photometric": 8}, "CIE Lab"),
        ({"pixels": RGB, "compression": 34712}, "compressed by JPEG 2000"),
        ({"pixels": RGB, "compression": 50002}, "compressed by JPEG XL"),
        ({"pixels": RGB, "compression": 12345}, "compressed by method 12345"),
        ({"pixels": RGB[..., 0], "photometric": 32803}, "camera's raw pixels"),
        ({"pixels": RGB, "more": {322: 16, 323: 16, 274: 6}}, "in tiles that is to be turned"),
        ({"pixels": np.dstack([RGB[..., :1], ALPHA]), "photometric": 1, "extra": (1,)}, "multiplied by its alpha"),
        ({"pixels": DEEP, "order": ">", "more": {258: [12, 12, 12]}}, "12 bits in big-endian order"),
    ],
)
def test_a_tiff_that_would_be_read_wrong_is_refused(given, why):
    with pytest.raises(ImageError, match=f"^it is a (grey )?TIFF .*{why}.*, which is not supported: save it again as"):
        decode_image(tiff(**given), "it", 10_000)
