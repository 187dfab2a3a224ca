"""Pictures that strangers send as bytes: the limit is the caller's, and sizes are known before anything is decoded."""

import struct

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.image import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (36, 44, 3), np.uint8)


def encode(ending):
    return cv2.imencode(ending, PIXELS.astype(np.float32) if ending == ".hdr" else PIXELS)[1].tobytes()


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".bmp", ".webp", ".avif"])
def test_formats_that_say_their_size(ending, monkeypatch):
    data = encode(ending)
    assert decode_image(data, "it", 36 * 44, declared=True).shape == (36, 44, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"^it has 1,584 pixels, the limit is 1,583: shrink it first$"):
        decode_image(data, "it", 36 * 44 - 1, declared=True)


@pytest.mark.parametrize("ending", [".tiff", ".jp2", ".ppm", ".hdr", ".ras", ".pfm"])
def test_formats_that_do_not_or_may_lie(ending, monkeypatch):
    data = encode(".png") if ending == ".pfm" else encode(ending)
    if ending == ".pfm":
        data = b"PF\n44 36\n-1.0\n" + PIXELS.astype("<f4").tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="it is not a picture of a format taken here: save it again as PNG or JPEG"):
        decode_image(data, "it", 1 << 40, declared=True)


def test_why_tiff_is_not_believed():
    data = bytearray(encode(".tiff"))
    for tag in (0x100, 0x101):  # width and height, as SSHORT in place of SHORT, which is read all the same
        at = data.index(struct.pack("<HHI", tag, 3, 1))
        data[at + 2] = 8
    decoy = struct.pack("<HHIIHHII", 0x100, 3, 1, 1, 0x101, 3, 1, 1)
    assert decode_image(bytes(data) + decoy, "it", 36 * 44).shape == (36, 44, 3)
    with pytest.raises(ImageError, match="1,584 pixels"):
        decode_image(bytes(data) + decoy, "it", 1)  # but only after it was decoded
    with pytest.raises(ImageError, match="not a picture of a format taken here"):
        decode_image(bytes(data) + decoy, "it", 1, declared=True)


def test_nothing_at_all():
    with pytest.raises(ImageError, match=r"^it is empty"):
        decode_image(b"", "it", 100, declared=True)
