"""Picture files become pixels, or are refused in one line."""

import os
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError, OutOfMemoryError
from fusioncam.runtime.photos import decode as module
from fusioncam.runtime.photos.decode import read_image

LOSSLESS = [".png", ".bmp", ".tiff", ".ppm", ".webp"]
LOSSY = [".jpg", ".avif", ".gif", ".jp2"]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth colourful picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(extension: str, rgb: np.ndarray, *options: int) -> bytes:
    """File bytes of an RGB, RGBA or grey picture; WebP without loss."""
    flips = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    bgr = cv2.cvtColor(rgb, flips[rgb.shape[2]]) if rgb.ndim == 3 else rgb
    options = options or ((cv2.IMWRITE_WEBP_QUALITY, 101) if extension == ".webp" else ())
    return cv2.imencode(extension, bgr, options)[1].tobytes()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int, color: int, pixels: bytes, *extra: bytes) -> bytes:
    """A PNG with any header; `pixels` are compressed already."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def oriented(jpeg: bytes, orientation: int) -> bytes:
    """Puts an EXIF segment that holds nothing but the orientation behind a JPEG's first marker."""
    exif = b"Exif\0\0MM" + struct.pack(">HIHHHIHHI", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.fixture
def read(tmp_path):
    def read_bytes(data: bytes) -> np.ndarray:
        path = tmp_path / "picture"
        path.write_bytes(data)
        result = read_image(path)
        assert result.dtype == np.uint8
        assert result.ndim == 3
        assert result.shape[2] == 3
        return result

    return read_bytes


class TestReadImage:
    @pytest.mark.parametrize("extension", LOSSLESS)
    def test_lossless_formats_come_back_as_rgb(self, read, extension):
        np.testing.assert_array_equal(read(encode(extension, scene(20, 30))), scene(20, 30))

    @pytest.mark.parametrize(("extension", "tolerance"), [(".jpg", 3), (".avif", 3), (".jp2", 3), (".gif", 60)])
    def test_lossy_formats_keep_the_channel_order(self, read, extension, tolerance):
        flat = np.full((64, 64, 3), (200, 100, 30), np.uint8)
        assert np.abs(read(encode(extension, flat)).astype(int) - flat).max() <= tolerance

    def test_unicode_and_str_paths(self, tmp_path):
        path = tmp_path / "画像 größe 🐈.png"
        path.write_bytes(encode(".png", scene(5, 7)))
        np.testing.assert_array_equal(read_image(str(path)), scene(5, 7))

    @pytest.mark.parametrize(
        ("orientation", "undo"),
        [
            (1, lambda p: p),
            (2, lambda p: p[:, ::-1]),
            (3, lambda p: p[::-1, ::-1]),
            (4, lambda p: p[::-1]),
            (5, lambda p: p.transpose(1, 0, 2)),
            (6, lambda p: np.rot90(p, -1)),
            (7, lambda p: p[::-1, ::-1].transpose(1, 0, 2)),
            (8, lambda p: np.rot90(p, 1)),
        ],
    )
    def test_exif_orientation(self, read, orientation, undo):
        jpeg = encode(".jpg", scene(16, 40))
        np.testing.assert_array_equal(read(oriented(jpeg, orientation)), undo(read(jpeg)))

    def test_16_bits_are_divided_by_257_and_rounded(self, read):
        deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        expected = np.rint(deep.astype(np.float64) / 257)
        for extension in (".png", ".tiff", ".pgm"):
            np.testing.assert_array_equal(read(encode(extension, deep))[..., 0], expected)

    @pytest.mark.parametrize("extension", [".png", ".tiff", ".ppm"])
    def test_16_bit_colours_keep_their_order(self, read, extension):
        np.testing.assert_array_equal(read(encode(extension, scene(9, 11).astype(np.uint16) * 257)), scene(9, 11))

    @pytest.mark.parametrize("bits", [10, 12])
    def test_10_and_12_bit_avif_are_not_dark(self, read, bits):
        flat = np.full((16, 16, 3), (200, 100, 30), np.uint16)
        data = encode(".avif", flat << (bits - 8), cv2.IMWRITE_AVIF_DEPTH, bits)
        assert np.abs(read(data).astype(int) - flat).max() <= 4

    @pytest.mark.parametrize("extension", [".png", ".jpg", ".tiff", ".pgm", ".bmp"])
    def test_grey_is_spread_over_equal_channels(self, read, extension):
        grey = np.full((12, 9), 77, np.uint8)
        np.testing.assert_array_equal(read(encode(extension, grey)), np.full((12, 9, 3), 77))

    @pytest.mark.parametrize("extension", [".png", ".tiff", ".bmp"])
    def test_alpha_is_dropped_and_does_not_darken(self, read, extension):
        alpha = np.zeros((20, 30, 1), np.uint8)
        np.testing.assert_array_equal(read(encode(extension, np.dstack([scene(20, 30), alpha]))), scene(20, 30))

    def test_palette_grey_alpha_and_one_bit_png(self, read):
        palette = chunk(b"PLTE", bytes([1, 2, 3, 200, 100, 50])) + chunk(b"tRNS", b"\0\x80")
        assert read(png(2, 1, 8, 3, zlib.compress(b"\0\0\1"), palette)).tolist() == [[[1, 2, 3], [200, 100, 50]]]
        assert read(png(2, 1, 8, 4, zlib.compress(b"\0\x0a\0\x64\x80"))).tolist() == [[[10] * 3, [100] * 3]]
        assert read(png(2, 1, 1, 0, zlib.compress(b"\0\x40"))).tolist() == [[[0] * 3, [255] * 3]]

    def test_one_pixel(self, read):
        assert read(encode(".png", np.full((1, 1, 3), (1, 2, 3), np.uint8))).tolist() == [[[1, 2, 3]]]

    def test_bytes_behind_the_end_do_no_harm(self, read):
        for extension in (".png", ".jpg"):
            assert read(encode(extension, scene(9, 9)) + b"trailing" * 9).shape == (9, 9, 3)

    def test_the_log_level_is_given_back(self, read):
        before = module._LOGS.getLogLevel()
        with pytest.raises(ImageError):
            read(b"BM" + bytes(60))
        assert module._LOGS.getLogLevel() == before


class TestRefusals:
    def test_missing_folder_empty_device_and_impossible_path(self, tmp_path, assert_refused):
        (tmp_path / "empty.png").touch()
        os.mkfifo(tmp_path / "pipe.png")
        for name, word in [
            ("none.png", "there is no picture"),
            ("no/such/folder.png", "there is no picture"),
            ("empty.png/inside", "cannot read"),
            ("", "is a folder"),
            ("empty.png", "is empty"),
            ("pipe.png", "not a regular file"),
            ("nul\0.png", "cannot read"),
            ("line\nbreak.png", "there is no picture"),
            ("x" * 300, "cannot read"),
        ]:
            assert_refused(lambda name=name: read_image(tmp_path / name), word)

    @pytest.mark.parametrize("extension", [*LOSSLESS, *LOSSY])
    @pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1, 0.01])
    def test_truncated_files_without_noise(self, read, capfd, extension, share, assert_refused):
        data = encode(extension, scene(120, 160))
        assert_refused(lambda: read(data[: max(int(len(data) * share), 1)]), "damaged or cut short")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize(
        "head",
        [
            b"no picture at all",
            b"\xff\xd8\xff",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"RIFF\x10\0\0\0WEBP",
            b"II*\0\x08",
        ],
    )
    def test_other_content_without_noise(self, read, capfd, head, assert_refused):
        for data in (head, head + bytes(200)):
            assert_refused(lambda data=data: read(data), "not a picture")
        assert capfd.readouterr() == ("", "")

    def test_damaged_png_without_noise(self, read, capfd, assert_refused):
        data = bytearray(encode(".png", scene(50, 50)))
        data[len(data) // 2] ^= 255
        assert_refused(lambda: read(bytes(data)), "damaged")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("extension", [".hdr", ".pfm", ".tiff"])
    def test_float_pixels(self, read, extension, assert_refused):
        assert_refused(lambda: read(encode(extension, np.full((4, 5, 3), 0.5, np.float32))), "float32", "8 or 16 bits")

    def test_a_huge_png_is_refused_before_it_is_decoded(self, read, monkeypatch, assert_refused):
        side, packer = 20_000, zlib.compressobj(1)
        rows = b"".join(packer.compress(bytes(50 * (side + 1))) for _ in range(side // 50)) + packer.flush()
        data = png(side, side, 8, 0, rows)
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        start = time.perf_counter()
        assert_refused(lambda: read(data), "400,000,000 pixels", "100,000,000")
        assert time.perf_counter() - start < 1

    @pytest.mark.parametrize("extension", [".png", ".jpg", ".gif", ".bmp", ".webp", ".tiff", ".jp2", ".avif"])
    def test_every_compressed_format_declares_its_size(self, read, monkeypatch, extension, assert_refused):
        data = encode(extension, scene(36, 44))
        assert read(data).shape == (36, 44, 3)
        monkeypatch.setattr(module, "MAX_PIXELS", 36 * 44 - 1)
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        assert_refused(lambda: read(data), "1,584 pixels")

    def test_variants_of_webp_bmp_and_tiff(self, read, monkeypatch, assert_refused):
        monkeypatch.setattr(module, "MAX_PIXELS", 36 * 44 - 1)
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        rgba = np.dstack([scene(36, 44), scene(36, 44)[..., :1]])
        lossy = encode(".webp", scene(36, 44), cv2.IMWRITE_WEBP_QUALITY, 80)
        extended = encode(".webp", rgba, cv2.IMWRITE_WEBP_QUALITY, 80)
        assert (lossy[12:16], extended[12:16]) == (b"VP8 ", b"VP8X")
        top_down = bytearray(encode(".bmp", scene(36, 44)))
        top_down[22:26] = struct.pack("<i", -36)
        short = b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHIHHHHIHH", 256, 3, 1, 44, 0, 257, 3, 1, 36, 0)
        long = b"MM\0*\0\0\0\x08\0\x02" + struct.pack(">HHIIHHII", 256, 4, 1, 44, 257, 4, 1, 36)
        for data in (lossy, extended, bytes(top_down), short, long):
            assert_refused(lambda data=data: read(data), "1,584 pixels")

    def test_a_jpeg_counts_as_its_picture_not_as_its_thumbnail(self, read, monkeypatch, assert_refused):
        jpeg, thumbnail = encode(".jpg", scene(36, 44)), encode(".jpg", scene(9, 11))
        segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
        monkeypatch.setattr(module, "MAX_PIXELS", 36 * 44 - 1)
        assert_refused(lambda: read(jpeg[:2] + segment + jpeg[2:]), "1,584 pixels")

    def test_formats_outside_the_table_are_judged_after_decoding(self, read, monkeypatch, assert_refused):
        monkeypatch.setattr(module, "MAX_PIXELS", 36 * 44 - 1)
        assert_refused(lambda: read(encode(".ppm", scene(36, 44))), "1,584 pixels")

    def test_what_opencv_itself_refuses(self, read, capfd, assert_refused):
        assert_refused(lambda: read(b"P5\n40000 40000\n255\n" + bytes(99)), "not a picture")
        assert capfd.readouterr() == ("", "")

    def test_file_size_limit(self, read, monkeypatch, assert_refused):
        monkeypatch.setattr(module, "MAX_BYTES", 10)
        assert_refused(lambda: read(encode(".png", scene(9, 9))), "bytes, the limit is 10")


class TestLackOfMemory:
    def test_opencv_says_so(self, read, monkeypatch):
        def imdecode(*_):
            raise cv2.error("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 243 bytes")

        data = encode(".png", scene(9, 9))
        monkeypatch.setattr(cv2, "imdecode", imdecode)
        with pytest.raises(OutOfMemoryError, match=r"^out of memory .*; use a smaller"):
            read(data)

    def test_opencv_only_gives_nothing(self, read, monkeypatch, assert_refused):
        data = encode(".png", scene(9, 9))
        monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
        assert_refused(lambda: read(data), "damaged")
        monkeypatch.setattr(module, "BYTES_PER_PIXEL", 1 << 50)
        with pytest.raises(OutOfMemoryError, match=r"^out of memory; use a smaller"):
            read(data)

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is limited as on Linux")
    @pytest.mark.parametrize("extension", [".png", ".jpg", ".webp", ".gif"])
    def test_for_true(self, tmp_path, extension):
        (tmp_path / "large").write_bytes(encode(extension, np.zeros((6000, 6000, 3), np.uint8)))
        program = """
import resource, sys
from pathlib import Path
from fusioncam.runtime.photos.decode import read_image
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (60 << 20),) * 2)
try:
    read_image(sys.argv[1])
except MemoryError as error:
    print(error)
"""
        told = subprocess.run([sys.executable, "-c", program, tmp_path / "large"], capture_output=True, text=True)
        assert told.stdout.startswith("out of memory"), told.stderr
