"""A picture is the same picture in whatever form it is given, or is refused in one line."""

import io
import mmap
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from fusioncam.errors import ImageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.given import is_single, open_given
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.photos.photo import Photo
from fusioncam.runtime.prepared import prepare

PREPROCESSING = Preprocessing(size=(24, 40), rescale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), np.uint8)
GREY = PIXELS[..., 0]


class OnlyDLPack:
    def __dlpack__(self, **options):
        return PIXELS.__dlpack__(**options)

    def __dlpack_device__(self):
        return PIXELS.__dlpack_device__()


class OnGpu:
    def __array__(self, *arguments, **options):
        raise TypeError("can't convert cuda:0 device type tensor to numpy.\nUse Tensor.cpu() first.")


def of_file(path):
    with path.open("rb") as file:
        yield "file object", file
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield "mapped file", mapped
    data = path.read_bytes()
    yield "path", path
    yield "text of a path", str(path)
    yield "bytes", data
    yield "bytearray", bytearray(data)
    yield "memoryview", memoryview(data)
    yield "BytesIO", io.BytesIO(data)
    yield "encoded array", np.frombuffer(data, np.uint8)
    yield "PIL image", Image.open(path)


def of_pixels(pixels):
    yield "array", pixels
    yield "photo", Photo(pixels, "a name")
    yield "with alpha", np.dstack([pixels, pixels[..., :1]])
    yield "16 bits", pixels.astype(np.uint16) * 257
    yield "16 bits of another order", (pixels.astype(np.uint16) * 257).astype(">u2")
    for kind in (np.float16, np.float32, np.float64):
        yield kind.__name__, (pixels / 255).astype(kind)
    yield "columns first in memory", np.asfortranarray(pixels)
    yield "memory of an array", memoryview(np.ascontiguousarray(pixels))
    yield "tensor", torch.from_numpy(pixels.copy())
    yield "tensor of floats", torch.from_numpy(pixels / 255)
    yield "PIL image in memory", Image.fromarray(pixels)
    yield "PIL image with alpha", Image.fromarray(np.dstack([pixels, pixels[..., :1]]))


def assert_same(forms, pixels):
    expected = as_input(pixels, PREPROCESSING)[1]
    for form, image in forms:
        photo, x = as_input(image, PREPROCESSING)
        np.testing.assert_array_equal(photo, pixels, err_msg=form)
        np.testing.assert_array_equal(x, expected, err_msg=form)


def test_every_form_is_the_same_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), PIXELS[..., ::-1])
    assert_same(of_file(tmp_path / "photo.png"), PIXELS)
    assert_same([*of_pixels(PIXELS), ("DLPack", OnlyDLPack())], PIXELS)
    grey = [GREY, GREY[..., None], GREY / 255, GREY.astype(np.uint16) * 257, Image.fromarray(GREY)]
    assert_same(enumerate(grey), np.repeat(GREY[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_pil_image_is_turned_as_its_file_once(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "photo.png", exif=exif)
    turned = np.rot90(PIXELS, {3: 2, 6: 3}[orientation])
    opened = Image.open(tmp_path / "photo.png")
    for image in (tmp_path / "photo.png", opened, opened.convert("RGBA"), opened.copy()):
        np.testing.assert_array_equal(as_input(image, PREPROCESSING)[0], turned)


def test_real_photos_in_every_form(shared_assets):
    photos = [path for path in sorted((shared_assets / "images").iterdir()) if path.suffix in (".jpg", ".png")]
    for path in photos:
        pixels = as_input(path, PREPROCESSING)[0]
        assert_same(of_file(path), pixels)
        if path is photos[0]:
            assert_same(of_pixels(pixels), pixels)


def test_what_has_a_path_has_its_name(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), PIXELS)
    with path.open("rb") as file:
        for image in (path, str(path), file, Image.open(path)):
            given = open_given(image, PREPROCESSING)
            assert (given.name, given.size) == (str(path), (30, 50))
            np.testing.assert_array_equal(given.again(), given.values)
    assert open_given(Photo(PIXELS, "frame 7"), PREPROCESSING).name == "frame 7"
    assert open_given(PIXELS, PREPROCESSING).name is None


def test_what_fits_the_model_is_taken_as_preprocessed_whatever_brings_it():
    x = np.random.default_rng(0).random((3, 24, 40)).astype(np.float32)
    for image in (x, x[None], torch.from_numpy(x), Photo(x, "x")):
        ready = prepare(image, PREPROCESSING)
        np.testing.assert_array_equal(ready.x, x)
        assert (ready.photo.again, ready.photo.size, ready.photo.shown.shape) == (None, None, (24, 40, 3))


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (PIXELS.astype(np.float32), "reaches from 0 to 255, but a photo of floats lies in 0..1: divide it"),
        (PIXELS / 255 - 0.5, "reaches from -0.5 to 0.5, but"),
        (np.full((4, 4), np.nan), "reaches from nan to nan"),
        (PIXELS.transpose(2, 0, 1), "come first: pass (H, W, channels), image.transpose(1, 2, 0)"),
        (torch.zeros(3, 30, 50, dtype=torch.uint8), "come first"),
        (
            PIXELS[None],
            "a uint8 array of shape (1, 30, 50, 3): it holds pictures one by one, as explain_batch takes them",
        ),
        (
            OnGpu(),
            "cannot read OnGpu as an array: can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()",
        ),
        (torch.zeros(4, 4, dtype=torch.bfloat16), "cannot read Tensor as an array"),
        (b"not a picture", "the data is not a picture"),
        (b"", "the data is empty"),
        (io.BytesIO(), "is empty or at its end: call its seek(0) first"),
        (io.StringIO("text"), "gives str, not bytes: open the file in binary mode, 'rb'"),
        (" HTTPS://me:pass@example.org/x.jpg?key=1", "https:// is an address: pass fusioncam.fetch_picture(address)"),
        (Path("s3://me:pass@bucket/photo.jpg"), "there is no picture 's3:/"),
        ("s3://me:pass@bucket/photo.jpg", "s3:// is an address: open it, and pass the file object"),
        (np.ma.masked_greater(PIXELS / 255, 0.5), "has masked values, which are no colours: pass image.filled(value)"),
        (type("Reader", (), {"read": lambda self: b""})(), "cannot read the file object: "),
        (np.ndarray, "cannot explain type: pass a path"),
        (Image.Image, "cannot explain type: pass a path"),
        (Image.new("I", (4, 4)), "cannot explain a int32 array of shape (4, 4)"),
    ],
)
def test_what_is_no_picture_or_could_mean_two_things(image, words):
    with pytest.raises(ImageError) as caught:
        as_input(image, PREPROCESSING)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(image, Path) or "me:pass" not in str(caught.value)


def test_a_stream_that_gives_little_at_a_time_is_read_to_its_end(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), PIXELS[..., ::-1])
    data = (tmp_path / "photo.png").read_bytes()
    assert len(data) > 4000
    inner = io.BytesIO(data)
    reader = type("Reader", (), {"read": lambda self, size: inner.read(min(size, 1000))})()
    np.testing.assert_array_equal(as_input(reader, PREPROCESSING)[0], PIXELS)


def test_a_photo_with_a_name_is_read_as_what_it_holds(tmp_path):
    palette = Image.fromarray(PIXELS).quantize(16)
    colours = np.asarray(palette.convert("RGB"))
    palette.save(tmp_path / "photo.png")
    for held in (palette, Photo(palette, "inner"), tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes()):
        given = open_given(Photo(held, "a name"), PREPROCESSING)
        np.testing.assert_array_equal(given.values, colours)
        assert given.name == "a name"
    assert open_given(Photo(tmp_path / "photo.png"), PREPROCESSING).name == str(tmp_path / "photo.png")


def test_a_photo_on_disk_is_found_again_from_another_folder(tmp_path, monkeypatch):
    cv2.imwrite(str(tmp_path / "photo.png"), PIXELS[..., ::-1])
    monkeypatch.chdir(tmp_path)
    given = open_given("photo.png", PREPROCESSING)
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(given.again(), PIXELS)
    assert given.name == "photo.png"


def test_a_file_that_is_cut_short_in_every_form(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), PIXELS)
    short = (tmp_path / "photo.png").read_bytes()[:-200]
    (tmp_path / "photo.png").write_bytes(short)
    for image in (tmp_path / "photo.png", short, io.BytesIO(short), Image.open(io.BytesIO(short))):
        with pytest.raises(ImageError):
            as_input(image, PREPROCESSING)


def test_several_pictures_and_single_ones():
    singles = [
        "a", b"a", bytearray(b"a"), memoryview(b"a"), Path("a"), io.BytesIO(), PIXELS, GREY, Image.new("L", (4, 4)),
        Photo(PIXELS), torch.zeros(4, 4, 3),
    ]  # fmt: skip
    several = [
        [],
        [PIXELS],
        (Path("a"),),
        np.zeros((2, 4, 4, 3)),
        torch.zeros(2, 3, 24, 40),
        iter("ab"),
        np.array(["a"]),
    ]
    assert [is_single(images) for images in singles] == [True] * len(singles)
    assert [is_single(images) for images in several] == [False] * len(several)
