"""Pictures that strangers send as bytes: what decoding them takes is known, and limited, before any is decoded."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.decode import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (36, 44, 3), np.uint8)


def encode(ending):
    return cv2.imencode(ending, PIXELS.astype(np.float32) if ending == ".hdr" else PIXELS)[1].tobytes()


def png(width, height, packed, *, depth=8, interlaced=0, before=b""):
    """A grey PNG of these packed data, with other chunks before them."""
    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, interlaced)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def frame(kind, depth, side, parts):
    """The start of a JPEG's frame."""
    about = b"".join(bytes([n, 0x11, 0]) for n in range(parts))
    return bytes([0xFF, kind]) + struct.pack(">HBHHB", 8 + 3 * parts, depth, side, side, parts) + about


@pytest.mark.parametrize("ending", [".png", ".jpg", ".gif", ".bmp", ".webp"])
def test_formats_that_say_their_size(ending, monkeypatch):
    data = encode(ending)
    assert decode_image(data, "it", 36 * 44, declared=True).shape == (36, 44, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"^it has 1,584 pixels, the limit is 1,583: shrink it first$"):
        decode_image(data, "it", 36 * 44 - 1, declared=True)


@pytest.mark.parametrize("ending", [".tiff", ".avif", ".jp2", ".ppm", ".hdr", ".ras", ".pfm"])
def test_formats_that_do_not_or_may_lie(ending, monkeypatch):
    data = encode(".png") if ending == ".pfm" else encode(ending)
    if ending == ".pfm":
        data = b"PF\n44 36\n-1.0\n" + PIXELS.astype("<f4").tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match="it is not of a supported format: save it again as PNG or JPEG"):
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
    with pytest.raises(ImageError, match="not of a supported format"):
        decode_image(bytes(data) + decoy, "it", 1, declared=True)


def test_nothing_at_all():
    with pytest.raises(ImageError, match=r"^it is empty"):
        decode_image(b"", "it", 100, declared=True)


@pytest.mark.parametrize("kind", [0xC0, 0xC1, 0xC2, 0xC3, 0xC9])
@pytest.mark.parametrize("depth", [2, 7, 8, 12, 16])
@pytest.mark.parametrize("parts", [1, 2, 3, 4])
def test_jpegs_of_any_kind_say_their_size(kind, depth, parts, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    small = frame(0xC0, 8, 16, 1)
    for decoy in (small, small[:5]):  # by itself, and one whose size would be the true frame's first bytes
        data = b"\xff\xd8\xff\xfe" + struct.pack(">H", 2 + len(decoy)) + decoy + frame(kind, depth, 60_000, parts)
        with pytest.raises(ImageError, match=r"^it has 3,600,000,000 pixels, the limit is 50,000,000"):
            decode_image(data, "it", 50_000_000, declared=True)


def test_jpegs_of_many_scans(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: PIXELS)
    start, scan = b"\xff\xd8" + frame(0xC2, 8, 16, 1), b"\xff\xda\0\x08\1\1\0\0\0\0"
    film = b"\xff\xda\xff\xff" * 99  # behind the picture, which may hold such bytes by chance
    assert decode_image(start + scan * 50 + b"\xff\xd9" + film, "it", 36 * 44, declared=True).shape == PIXELS.shape
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"^it is a JPEG of more than 50 scans: save it again as PNG or JPEG$"):
        decode_image(start + scan * 51 + b"\xff\xd9", "it", 256, declared=True)


@pytest.mark.parametrize("surplus", [1, 1 << 26])
def test_pngs_that_hold_more_than_their_pixels(surplus, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    data = png(16, 16, zlib.compress(bytes(16 * 17 + surplus)))
    with pytest.raises(ImageError, match=r"^it is a PNG that holds more than its pixels, or is damaged"):
        decode_image(data, "it", 256, declared=True)
    with pytest.raises(ImageError, match="or is damaged"):
        decode_image(png(16, 16, b"not packed"), "it", 256, declared=True)


@pytest.mark.parametrize(("size", "packed"), [((1, 1), 2), ((5, 1), 8), ((8, 8), 15 * 2)])
def test_interlaced_pngs_take_more_rows(size, packed):
    data = png(*size, zlib.compress(bytes(packed)), depth=1, interlaced=1)
    assert not decode_image(data, "it", 64, declared=True).any()


def test_packed_notes_of_a_png_are_not_unpacked(monkeypatch):
    seen, decode = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda data, *flags: seen.append(data.tobytes()) or decode(data, *flags))
    kept, bomb = chunk(b"gAMA", struct.pack(">I", 45455)), zlib.compress(bytes(1 << 20))
    notes = chunk(b"zTXt", b"a\0\0" + bomb) + chunk(b"iTXt", b"a\0\1\0\0\0" + bomb) + chunk(b"iCCP", b"a\0\0" + bomb)
    rows = zlib.compress(bytes(16 * 17))
    assert decode_image(png(16, 16, rows, before=notes + kept), "it", 256, declared=True).shape == (16, 16, 3)
    assert seen == [png(16, 16, rows, before=kept)]
