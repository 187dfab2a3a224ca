"""Files in and out, by OpenCV and without it, and the sample program."""

import io
import os
import struct
import subprocess
import zlib

import cv2
import numpy as np
import onnxruntime
import pytest

from fusioncam import errors
from fusioncam.output import write_atomically
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import on_photo
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.picture import color_table, overlay


def in_python(call):
    """The kind and text of the error that Python raises."""
    with pytest.raises(errors.FusionCamError) as error:
        call()
    return type(error.value).__name__, str(error.value)


def png_of(width, height):
    """A sound PNG that declares a size, and holds no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def frame(kind, depth, side, parts):
    """The start of a JPEG's frame."""
    about = b"".join(bytes([n, 0x11, 0]) for n in range(parts))
    return bytes([0xFF, kind]) + struct.pack(">HBHHB", 8 + 3 * parts, depth, side, side, parts) + about


@pytest.fixture
def noise():
    return np.random.default_rng(6).integers(0, 256, (21, 34, 3), np.uint8)


KINDS = {
    "rgb.png": lambda rgb: rgb,
    "grey.png": lambda rgb: rgb[..., 0],
    "alpha.png": lambda rgb: np.dstack([rgb, rgb[..., 0]]),
    "deep.png": lambda rgb: rgb.astype(np.uint16) * 251,
    "picture.bmp": lambda rgb: rgb,
    "picture.tiff": lambda rgb: rgb,
}


@pytest.mark.parametrize("name", KINDS)
def test_reads_what_python_reads(opencv_driver, tmp_path, noise, name):
    path = tmp_path / name
    cv2.imwrite(str(path), KINDS[name](noise))
    assert opencv_driver.done("read", path, tmp_path / "rgb") == "(21, 34)"
    np.testing.assert_array_equal(np.fromfile(tmp_path / "rgb", np.uint8).reshape(21, 34, 3), read_image(path))


def damaged(noise):
    """Files that are no sound pictures, by name."""
    png, jpeg, tiff = (cv2.imencode(ending, noise)[1].tobytes() for ending in (".png", ".jpg", ".tiff"))
    start = jpeg.index(b"\xff\xc0") + 5
    return {
        "empty.png": b"",
        "text.jpg": b"no picture at all",
        "cut.png": png[:-20],
        "changed.png": png[:60] + bytes([png[60] ^ 1]) + png[61:],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "head.jpg": jpeg[:3],
        "chunk.png": png[:33] + b"\xff\xff\xff\xff" + png[37:],
        "huge.png": png_of(30000, 30000),
        "huge.jpg": jpeg[:start] + b"\xea\x60\xea\x60" + jpeg[start + 4 :],
        "lossless.jpg": b"\xff\xd8" + frame(0xC3, 7, 60_000, 3),
        "two.jpg": b"\xff\xd8" + frame(0xC0, 8, 60_000, 2),
        "hidden.jpg": b"\xff\xd8\xff\xfe\0\7\xff\xc0\0\x0b\x08" + frame(0xC3, 3, 60_000, 1),
        "huge.bmp": b"BM" + bytes(8) + b"\x36\0\0\0\x28\0\0\0" + struct.pack("<ii", 40000, -40000) + bytes(28),
        "huge.gif": b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20),
        "huge.webp": b"RIFF\0\1\0\0WEBPVP8X\x0a\0\0\0" + bytes(4) + b"\xff\x3f\0\xff\x3f\0" + bytes(20),
        "packed.webp": b"RIFF\0\1\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 0x3FFF | 0x3FFF << 14) + bytes(20),
        "huge.tiff": tiff.replace(
            b"\0\1\3\0\1\0\0\0" + struct.pack("<I", 34), b"\0\1\4\0\1\0\0\0" + struct.pack("<I", 2**31)
        ),
        "float.tiff": cv2.imencode(".tiff", noise.astype(np.float32))[1].tobytes(),
    }


def test_bad_files_are_told_as_in_python(opencv_driver, tmp_path, noise):
    for name, data in damaged(noise).items():
        (tmp_path / name).write_bytes(data)
        path = tmp_path / name
        assert opencv_driver.ask("read", path, tmp_path / "rgb") == in_python(lambda path=path: read_image(path)), name


def misread(noise):
    """Files that OpenCV reads otherwise than they are meant, and a word of what is said of them."""
    pillow = pytest.importorskip("PIL.Image")
    rgba = pillow.fromarray(np.dstack([noise, noise[..., :1]]))
    rows = b"".join(row.tobytes() for row in noise[..., 0].astype("<u2"))
    kinds = {}
    for ending, picture, options, word in (
        ("tiff", rgba, {}, "TIFF"),
        ("tiff", rgba, {"big_tiff": True}, "BigTIFF"),
        ("tiff", rgba, {"compression": "tiff_lzw"}, "TIFF"),
        ("tiff", pillow.fromarray(noise).convert("LAB"), {}, "TIFF"),
        ("avif", rgba, {}, "AVIF"),
        ("jp2", rgba, {}, "JPEG 2000"),
        ("gif", pillow.fromarray(noise).quantize(60), {"transparency": 3}, "GIF with a transparent colour"),
    ):
        file = io.BytesIO()
        picture.save(file, {"jp2": "JPEG2000"}.get(ending, ending), **options)
        kinds[f"{len(kinds)}.{ending}"] = (file.getvalue(), word)
    bmp = b"BM" + bytes(8) + struct.pack("<IIiiHHI", 66, 40, 34, 21, 1, 32, 3) + bytes(20)
    four = np.dstack([noise, noise[..., :1]]).tobytes()
    return kinds | {
        "rgb.bmp": (bmp + struct.pack("<III", 0xFF, 0xFF00, 0xFF0000) + four, "BMP whose channels"),
        "16.bmp": (b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 34, 21, 1, 16, 0) + bytes(20) + rows, "16 bits"),
        "4095.pgm": (b"P5\n# 12 bits\n34 21\n4095\n" + rows, "white is 4095"),
        "100.ppm": (b"P6 34 21 100\n" + noise.tobytes(), "white is 100"),
        "a.pam": (b"P7\nWIDTH 34\nHEIGHT 21\nDEPTH 3\nMAXVAL 255\nENDHDR\n" + noise.tobytes(), "PAM"),
    }


def test_what_opencv_reads_otherwise_than_it_is_meant_is_refused(opencv_driver, tmp_path, noise):
    for name, (data, word) in misread(noise).items():
        (tmp_path / name).write_bytes(data)
        kind, told = opencv_driver.ask("read", tmp_path / name, tmp_path / "rgb")
        assert (kind, word in told) == ("ImageError", True), (name, told)
        assert told.endswith("not supported: save it again as PNG or JPEG"), told


def test_places_without_a_picture_are_told_as_in_python(opencv_driver, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate((1 << 30) + 1)
    for name in ("nowhere.png", 'it\'s "new"\\.png', ".", "pipe", "large.png", "file/below.png", "n" * 300, "ünö.png"):
        path = tmp_path / name
        assert opencv_driver.ask("read", path, tmp_path / "rgb") == in_python(lambda path=path: read_image(path))


def test_bytes_of_any_kind_end_in_one_error(opencv_driver, tmp_path, noise):
    """Sound heads, then nonsense: nothing is read beyond the buffer, or the sanitizers end the driver."""
    rng = np.random.default_rng(7)
    for data in [*damaged(noise).values()] * 8:
        broken = np.frombuffer(data, np.uint8).copy()
        if broken.size:
            at = rng.integers(min(4, broken.size), broken.size + 1, 6).clip(max=broken.size - 1)
            broken[at] = rng.integers(0, 256, 6)
        (tmp_path / "broken").write_bytes(broken.tobytes()[: rng.integers(broken.size // 2, broken.size + 1)])
        kind, _ = opencv_driver.ask("read", tmp_path / "broken", tmp_path / "rgb")
        assert kind in ("ok", "ImageError")


def test_writes_whole_pictures_or_none(opencv_driver, tmp_path, noise):
    noise.tofile(tmp_path / "photo")
    told = (tmp_path / "photo", *noise.shape[:2])
    assert opencv_driver.done("write", *told, tmp_path / "new.png") == ""
    np.testing.assert_array_equal(read_image(tmp_path / "new.png"), noise)
    (tmp_path / "folder.png").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("folder.png", "nowhere/new.png", "photo/new.png", "n" * 255 + ".png"):
        found = opencv_driver.ask("write", *told, tmp_path / name)
        assert found == in_python(lambda name=name: write_atomically(tmp_path / name, b"x"))
    kind, text = opencv_driver.ask("write", *told, tmp_path / "new.xyz")
    assert kind == "OutputError"
    assert "name it .png or .jpg" in text
    assert sorted(tmp_path.iterdir()) == before


def test_no_such_colour_map(opencv_driver, tmp_path):
    np.zeros((1, 1, 3), np.uint8).tofile(tmp_path / "photo")
    np.zeros((1, 1), np.float32).tofile(tmp_path / "map")
    found = opencv_driver.ask("overlay", tmp_path / "photo", 1, 1, tmp_path / "map", 70, "grey", tmp_path / "out")
    assert found == in_python(lambda: color_table("grey"))


def test_ppm_needs_no_library(driver, tmp_path, noise):
    noise.tofile(tmp_path / "photo")
    assert driver.done("write_ppm", tmp_path / "photo", *noise.shape[:2], tmp_path / "new.ppm") == ""
    np.testing.assert_array_equal(read_image(tmp_path / "new.ppm"), noise)
    (tmp_path / "old.ppm").write_bytes(b"P6 # by hand\n#34 21\n\t34\r\n 21 #\n255\n" + noise.tobytes() + b"more")
    for name in ("new.ppm", "old.ppm"):
        assert driver.done("read_ppm", tmp_path / name, tmp_path / "rgb") == "(21, 34)"
        np.testing.assert_array_equal(np.fromfile(tmp_path / "rgb", np.uint8).reshape(21, 34, 3), noise)
    kind, text = driver.ask("write_ppm", tmp_path / "photo", *noise.shape[:2], tmp_path / "new.png")
    assert kind == "OutputError"
    assert "name it .ppm" in text


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"P6", "is not a picture"),
        (b"P6 #", "is not a picture"),
        (b"P6 2 1 255", "is not a picture"),
        (b"P6 2 1 255\n12345", "is not a picture"),
        (b"P6 0 1 255\n", "is not a picture"),
        (b"P6 2 1 65535\n123456789012", "is not a picture"),
        (b"P6 -2 1 255\n123456", "is not a picture"),
        (b"P5 2 1 255\n12", "other formats need OpenCV"),
        (b"P6 99999999999999999999999999 1 255\n", "the limit is 100,000,000"),
        (b"P6 4294967296 4294967296 255\n", "the limit is 100,000,000"),
        (b"P6 10001 10000 255\n", "has 100,010,000 pixels"),
    ],
)
def test_bad_ppm(driver, tmp_path, data, told):
    (tmp_path / "bad.ppm").write_bytes(data)
    kind, text = driver.ask("read_ppm", tmp_path / "bad.ppm", tmp_path / "rgb")
    assert kind == "ImageError"
    assert told in text


def sample(built, *arguments):
    done = subprocess.run([built.sample, *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_sample_writes_the_overlay_of_python(built, exported, tmp_path, noise):
    path, preprocessing = exported
    cv2.imwrite(str(tmp_path / "photo.ppm"), noise)
    status, out, err = sample(built, path, tmp_path / "photo.ppm", tmp_path / "overlay.ppm", 1)
    assert (status, err) == (0, "")
    assert out.endswith(f"-> {tmp_path / 'overlay.ppm'}\n")
    photo = read_image(tmp_path / "photo.ppm")
    x = preprocess(photo, preprocessing)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (saliency,) = session.run(["fusion_cam"], {"image": x[None], "class_index": np.array([1], np.int64)})
    drawn = overlay(photo, on_photo(saliency[0], photo.shape[:2], preprocessing))
    found = read_image(tmp_path / "overlay.ppm")
    assert np.abs(found.astype(int) - drawn).max() <= 1  # a map that differs by 1e-7 may round another way


def test_the_sample_tells_what_the_maps_rest_on(built, make_graph, graph, tmp_path, noise):
    cv2.imwrite(str(tmp_path / "photo.ppm"), noise)
    path = make_graph(tmp_path / "assumed.onnx", graph[1], preprocessing_origin="assumed")
    status, out, err = sample(built, path, tmp_path / "photo.ppm", tmp_path / "overlay.ppm", 0)
    assert (status, out.count("\n")) == (0, 1)
    assert "note: assumed_preprocessing" in err.splitlines()


def test_the_sample_says_what_is_wrong(built, graph, tmp_path, noise):
    cv2.imwrite(str(tmp_path / "photo.ppm"), noise)
    usage = sample(built)
    assert usage[0] == 2
    assert usage[2].endswith("BUNDLE PICTURE OVERLAY [CLASS]\n")
    for arguments, status, text in (
        ((graph[0], tmp_path / "photo.ppm", tmp_path / "o.ppm", "two"), 2, "CLASS must be a whole number, not 'two'"),
        ((graph[0], tmp_path / "photo.ppm", tmp_path / "o.ppm", 9), 2, "there is no class 9"),
        ((graph[0], tmp_path / "no.ppm", tmp_path / "o.ppm"), 1, "there is no picture"),
        ((tmp_path, tmp_path / "photo.ppm", tmp_path / "o.ppm"), 1, "is no bundle"),
    ):
        found = sample(built, *arguments)
        assert (found[0], found[1]) == (status, "")
        assert found[2].startswith("error: ")
        assert text in found[2]
        assert found[2].count("\n") == 1
    assert not (tmp_path / "o.ppm").exists()
