"""Every format and kind of pixels, held against Pillow, pixel by pixel."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.decode import decode_image

Image = pytest.importorskip("PIL.Image")
ImageOps = pytest.importorskip("PIL.ImageOps")

HEIGHT, WIDTH = 34, 50
TIFF_TAGS = {"orientation": 274, "extra": 338}


def noise(channels, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 8, channels), np.uint8)
    return np.asarray(np.repeat(np.repeat(coarse, 6, 0), 7, 1)[:HEIGHT, :WIDTH])


RGB, ALPHA = noise(3), noise(1, 1)
DEEP, RGBA = RGB.astype(np.uint16) * 257, np.dstack([RGB, ALPHA])
PICTURES = {
    "RGB": Image.fromarray(RGB),
    "RGBA": Image.fromarray(np.dstack([RGB, ALPHA])),
    "L": Image.fromarray(RGB[..., 0]),
    "LA": Image.fromarray(np.dstack([RGB[..., :1], ALPHA])),
    "1": Image.fromarray(RGB[..., 0]).convert("1"),
    "P": Image.fromarray(RGB).quantize(64),
    "CMYK": Image.fromarray(RGB).convert("CMYK"),
    "YCbCr": Image.fromarray(RGB).convert("YCbCr"),
    "I;16": Image.fromarray(RGB[..., 0].astype(np.uint16) * 251),
}
# Each format, how it is saved, and the pixels it can hold.
FORMATS = {
    "PNG": ({}, "RGB RGBA L LA 1 P I;16"),
    "WEBP": ({"lossless": True}, "RGB RGBA L LA P"),
    "WEBP lossy": ({"quality": 80}, "RGB RGBA L"),
    "AVIF": ({"quality": 90}, "RGB RGBA L"),
    "JPEG": ({"quality": 90}, "RGB L 1 CMYK YCbCr"),
    "JPEG progressive": ({"progressive": True, "subsampling": "4:2:0"}, "RGB L CMYK"),
    "GIF": ({}, "RGB RGBA L LA 1 P"),
    "BMP": ({}, "RGB RGBA L 1 P"),
    "JPEG2000": ({}, "RGB RGBA L LA I;16"),
    "PPM": ({}, "RGB L 1 I;16"),
    "TIFF": ({}, "RGB RGBA L LA 1 P CMYK YCbCr I;16"),
    "TIFF lzw": ({"compression": "tiff_lzw"}, "RGB RGBA L LA 1 P CMYK I;16"),
    "TIFF deflate": ({"compression": "tiff_adobe_deflate"}, "RGB RGBA L LA P CMYK I;16"),
    "TIFF packbits": ({"compression": "packbits"}, "RGB RGBA L P"),
    "TIFF jpeg": ({"compression": "jpeg"}, "RGB RGBA L CMYK"),
    "TIFF fax": ({"compression": "group4"}, "1"),
    "TIFF big": ({"big_tiff": True}, "RGB RGBA L"),
}
CASES = [(form, mode) for form, (_, modes) in FORMATS.items() for mode in modes.split()]


def saved(picture, form, **more):
    options = FORMATS[form][0] if form in FORMATS else {}
    file = io.BytesIO()
    picture.save(file, form.split()[0], **{**options, **more})
    return file.getvalue()


@pytest.mark.parametrize(("form", "mode"), CASES)
def test_every_kind_of_pixels(assert_as_pillow, form, mode):
    exact = mode not in ("CMYK", "YCbCr", "I;16")
    assert_as_pillow(saved(PICTURES[mode], form), 0 if exact else 1)


@pytest.mark.parametrize("form", ["PNG", "GIF", "TIFF"])
def test_palettes_with_a_transparent_colour(assert_as_pillow, form):
    picture = Image.fromarray(RGB).quantize(60)
    assert_as_pillow(saved(picture, form, **({} if form == "TIFF" else {"transparency": 3})), 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_turned(assert_as_pillow, form, orientation):
    exif = Image.Exif()
    exif[TIFF_TAGS["orientation"]] = orientation
    for mode in ("RGB",) if form == "JPEG" else ("RGB", "RGBA"):
        assert_as_pillow(saved(PICTURES[mode], form, exif=exif), 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("packed", [False, True])
def test_turned_by_a_text_of_a_png(assert_as_pillow, orientation, packed):
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0" + struct.pack("<HHIII", TIFF_TAGS["orientation"], 3, 1, orientation, 0)
    text = f"\nexif\n{len(exif):8}\n{exif.hex()}\n".encode()
    kind, text = (b"zTXt", b"\0" + zlib.compress(text)) if packed else (b"tEXt", text)
    assert_as_pillow(png(8, 2, RGB, (kind, b"Raw profile type exif\0" + text)), 0)


@pytest.mark.parametrize("text", [b"", b"\nexif\n", b"\nexif\n 4\nzz", b"\nexif\n 4\n\xff", b"\nexif\n 4\nabcd"])
def test_a_text_of_a_png_that_makes_no_sense_turns_nothing(text):
    data = png(8, 2, RGB, (b"tEXt", b"Raw profile type exif\0" + text))
    np.testing.assert_array_equal(decode_image(data, "it", 10_000), RGB)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_of_several_pictures_the_first(assert_as_pillow, form):
    second = Image.fromarray(RGB[::-1].copy())
    assert_as_pillow(saved(PICTURES["RGB"], form, save_all=True, append_images=[second]), 0)


@pytest.mark.parametrize("most", [1, 15, 100, 255, 256, 1023, 4095, 16383, 65535])
@pytest.mark.parametrize("kind", [2, 3, 5, 6])
def test_netpbm_of_any_greatest_value(kind, most):
    values = np.rint((RGB if kind in (3, 6) else RGB[..., 0]) / 255 * most).astype(int)
    binary = values.astype(">u2" if most > 255 else np.uint8).tobytes()
    text = " ".join(map(str, values.ravel())).encode()
    head = f"P{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{most}\n".encode()
    data = head + (text if kind in (2, 3) else binary)
    expected = np.repeat(values[..., None], 3, 2) if values.ndim == 2 else values
    assert np.abs(decode_image(data, "it", 10_000) - expected * 255 / most).max() <= 1


def bmp(bits, compression, rows, *, palette=b"", masks=b"", head=40):
    """A BMP of rows from the bottom, each padded to four bytes."""
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    if head == 12:
        about = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        colours = len(palette) // 4
        about = (
            struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, compression, len(body), 0, 0, colours, 0) + masks
        )
    start = 14 + len(about) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + about + palette + body


def packed(green):
    red, blue = RGB[::-1, :, 0].astype(int) >> 3, RGB[::-1, :, 2].astype(int) >> 3
    middle = RGB[::-1, :, 1].astype(int) >> (8 - green)
    return [row.astype("<u2").tobytes() for row in red << (5 + green) | middle << 5 | blue]


@pytest.mark.parametrize(
    "data",
    [
        bmp(16, 0, packed(5)),
        bmp(16, 3, packed(5), masks=struct.pack("<III", 0x7C00, 0x3E0, 0x1F)),
        bmp(16, 3, packed(6), masks=struct.pack("<III", 0xF800, 0x7E0, 0x1F)),
        bmp(24, 0, [row.tobytes() for row in RGB[::-1, :, ::-1]], head=12),
        bmp(8, 0, [row.tobytes() for row in RGB[::-1, :, 0]], palette=bytes(range(256)) * 3, head=12),
        bmp(8, 0, [row.tobytes() for row in RGB[::-1, :, 0]], palette=(bytes(range(256)) * 4)),
    ],
    ids=["555", "555 by masks", "565", "OS/2", "OS/2 palette", "palette"],
)
def test_bitmaps(assert_as_pillow, data):
    assert_as_pillow(data)


MASKS = {
    "BGR": (16, 8, 0, None),
    "BGRA": (16, 8, 0, 24),
    "RGB": (0, 8, 16, None),
    "RGBA": (0, 8, 16, 24),
    "XBGR": (24, 16, 8, None),
    "ABGR": (24, 16, 8, 0),
    "XRGB": (8, 16, 24, None),
}


@pytest.mark.parametrize("order", MASKS)
@pytest.mark.parametrize(("head", "compression"), [(40, 3), (40, 6), (52, 3), (56, 3), (108, 3), (124, 3)])
def test_bitmaps_of_32_bits_whose_channels_lie_in_any_order(order, head, compression):
    shifts = MASKS[order]
    masks = struct.pack("<4I", *(0 if shift is None else 0xFF << shift for shift in shifts))
    channels = [np.uint32(0) if shift is None else RGBA[::-1, :, n].astype(np.uint32) << shift
                for n, shift in enumerate(shifts)]  # fmt: skip
    rows = [row.astype("<u4").tobytes() for row in sum(channels[1:], channels[0])]
    behind = masks[:12] if head < 56 and compression == 3 else masks + bytes(max(head - 56, 0))
    data = bmp(32, compression, rows, masks=behind)
    data = data[:14] + struct.pack("<I", head) + data[18:]
    np.testing.assert_array_equal(decode_image(data, "it", 10_000), RGB)


@pytest.mark.parametrize("container", [True, False])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_jpeg_2000_of_more_than_8_bits(container, bits):
    # The writer knows 8 and 16 bits. Other depths are written over its own; samples are stored less half their range.
    values = (DEEP >> (16 - bits)) + np.uint16((1 << 15) - (1 << (bits - 1)))
    picture = cv2.imencode(".jp2", values[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    start = picture.index(b"\xff\x4f\xff\x51")
    stream = bytearray(picture[start:])
    for channel in range(3):
        stream[42 + 3 * channel] = bits - 1
    data = picture[:start] + bytes(stream) if container else bytes(stream)
    assert np.abs(decode_image(data, "it", 10_000).astype(int) - RGB).max() <= 1


def png(bits, colour, rows, *extra):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, bits, colour, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*e) for e in extra) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [
        png(16, 2, DEEP.astype(">u2")),
        png(16, 6, np.dstack([DEEP, DEEP[..., :1]]).astype(">u2")),
        png(16, 4, np.dstack([DEEP[..., 0], DEEP[..., 1]]).astype(">u2")),
        png(4, 0, RGB[..., 0][:, ::2]),
        png(2, 0, RGB[..., 0][:, : (WIDTH + 3) // 4]),
        png(8, 2, RGB, (b"tRNS", struct.pack(">HHH", *RGB[3, 3].tolist()))),
        png(8, 2, RGB, (b"gAMA", struct.pack(">I", 100_000)), (b"sBIT", b"\5\5\5")),
        png(8, 6, np.dstack([RGB, ALPHA]), (b"bKGD", struct.pack(">HHH", 255, 0, 0))),
    ],
    ids=["RGB 16", "RGBA 16", "LA 16", "4 bits", "2 bits", "transparent colour", "gamma", "background"],
)
def test_kinds_of_png(assert_as_pillow, data):
    assert_as_pillow(data)


def test_a_jpeg_2000_in_ycc_is_refused():
    with pytest.raises(ImageError, match=r"^it is a JPEG 2000 in YCC colours, which is not supported"):
        decode_image(saved(PICTURES["YCbCr"], "JPEG2000"), "it", 10_000)


@pytest.mark.parametrize(
    ("form", "kind"), [("ICO", "icon"), ("PCX", "PCX"), ("SGI", "SGI"), ("PDF", "document"), ("DDS", "DDS")]
)
def test_formats_that_are_not_read_are_called_by_their_name(form, kind):
    with pytest.raises(
        ImageError, match=f"^it is an? .*{kind}.*, which is not supported: save it again as PNG or JPEG$"
    ):
        decode_image(saved(PICTURES["RGB"], form), "it", 10_000)
