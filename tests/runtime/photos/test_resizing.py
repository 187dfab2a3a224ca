"""What the model sees of a photo, and what it is fed."""

import cv2
import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import display_image, visible_part
from fusioncam.runtime.photos.model_input import preprocess, unpreprocess

IMAGENET = {"rescale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PRESETS = [
    IMAGENET,
    {"rescale": 1 / 127.5, "mean": (1.0, 1.0, 1.0)},
    {"rescale": 1 / 255},
    {"mean": (103.939, 116.779, 123.68), "channel_order": "bgr"},
]


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth colourful picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


class TestVisiblePart:
    def test_squash_sees_the_whole_photo(self):
        np.testing.assert_array_equal(visible_part(scene(40, 70), Preprocessing(size=(16, 16))), scene(40, 70))

    @pytest.mark.parametrize(("shape", "region"), [((60, 100), (7, 53, 27, 73)), ((100, 60), (27, 73, 7, 53))])
    def test_crop_sees_the_middle(self, shape, region):
        # The short side of 60 becomes 26 / 0.77 = 33.8: 26 of them are 46 pixels of the photo.
        top, bottom, left, right = region
        seen = visible_part(scene(*shape), Preprocessing(size=(26, 26), resize="crop", crop_fraction=0.77))
        expected = scene(*shape)[top:bottom, left:right]
        assert abs(seen.shape[0] - expected.shape[0]) <= 2
        assert abs(seen.shape[1] - expected.shape[1]) <= 2

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    def test_it_is_what_the_model_is_shown(self, resize):
        photo = scene(90, 130)
        preprocessing = Preprocessing(size=(30, 30), resize=resize, crop_fraction=0.8 if resize == "crop" else 1.0)
        part = visible_part(photo, preprocessing)
        shrunk = display_image(part, Preprocessing(size=(30, 30)))
        assert np.abs(shrunk.astype(int) - display_image(photo, preprocessing)).mean() < 6

    def test_a_single_row_stays(self):
        assert visible_part(scene(1, 50), Preprocessing(size=(8, 8), resize="crop")).size > 0


class TestDisplayImage:
    @pytest.mark.parametrize(("source", "size"), [((100, 150), (32, 48)), ((20, 30), (64, 50)), ((90, 20), (40, 40))])
    def test_squash_is_the_antialiased_bilinear_filter_of_torchvision(self, source, size):
        torch = pytest.importorskip("torch")
        photo = scene(*source)
        planes = torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(planes, size, mode="bilinear", antialias=True)
        result = display_image(photo, Preprocessing(size=size))
        np.testing.assert_allclose(result, expected[0].permute(1, 2, 0).numpy(), atol=0.501)

    def test_crop_cuts_the_centre_of_the_covering_resize(self):
        torch = pytest.importorskip("torch")
        photo = scene(375, 500)
        planes = torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None]
        # Resize(256), then CenterCrop(224): 256 x 341, of which rows 16.. and columns 58.. are kept.
        resized = torch.nn.functional.interpolate(planes, (256, 341), mode="bilinear", antialias=True)
        expected = resized[0].permute(1, 2, 0).numpy()[16:240, 58:282]
        result = display_image(photo, Preprocessing(size=(224, 224), resize="crop", crop_fraction=0.875))
        np.testing.assert_allclose(result, expected, atol=0.501)

    def test_crop_without_resize_is_a_slice(self):
        photo = scene(40, 60)
        result = display_image(photo, Preprocessing(size=(40, 40), resize="crop"))
        np.testing.assert_array_equal(result, photo[:, 10:50])

    def test_same_size_is_the_photo_itself(self):
        np.testing.assert_array_equal(display_image(scene(33, 47), Preprocessing(size=(33, 47))), scene(33, 47))

    def test_shrinking_does_not_alias(self):
        stripes = np.zeros((400, 400, 3), np.uint8)
        stripes[:, ::2] = 255
        result = display_image(stripes, Preprocessing(size=(50, 50)))
        assert np.abs(result[:, 1:-1].astype(int) - 127.5).max() <= 8

    def test_large_photos_are_close_to_the_exact_filter(self):
        torch = pytest.importorskip("torch")
        photo = scene(1000, 1300)
        planes = torch.from_numpy(photo.astype(np.float64)).permute(2, 0, 1)[None]
        expected = torch.nn.functional.interpolate(planes, (64, 64), mode="bilinear", antialias=True)
        result = display_image(photo, Preprocessing(size=(64, 64)))
        assert np.abs(result - expected[0].permute(1, 2, 0).numpy()).max() < 3

    @pytest.mark.parametrize("resize", ["squash", "crop"])
    @pytest.mark.parametrize("shape", [(1, 1), (1, 5_000_000), (5_000_000, 1), (2, 3)])
    def test_slivers_and_single_pixels(self, resize, shape):
        photo = np.full((*shape, 3), 77, np.uint8)
        result = display_image(photo, Preprocessing(size=(32, 48), resize=resize, crop_fraction=0.875))
        np.testing.assert_array_equal(result, np.full((32, 48, 3), 77))


class TestPreprocess:
    @pytest.mark.parametrize("preset", PRESETS)
    @pytest.mark.parametrize("resize", ["squash", "crop"])
    def test_arithmetic(self, preset, resize):
        preprocessing = Preprocessing(size=(24, 40), resize=resize, **preset)
        photo = scene(60, 70)
        x = preprocess(photo, preprocessing)
        assert (x.dtype, x.shape, x.flags.c_contiguous) == (np.float32, (3, 24, 40), True)
        pixels = display_image(photo, preprocessing).astype(np.float64)
        pixels = pixels[..., ::-1] if preprocessing.channel_order == "bgr" else pixels
        expected = (pixels * preprocessing.rescale - preprocessing.mean) / preprocessing.std
        np.testing.assert_allclose(x, expected.transpose(2, 0, 1), rtol=1e-6, atol=3e-7 * np.abs(expected).max())

    @pytest.mark.parametrize("preset", PRESETS)
    def test_unpreprocess_is_the_inverse(self, preset):
        preprocessing = Preprocessing(size=(24, 40), **preset)
        shown = unpreprocess(preprocess(scene(60, 70), preprocessing), preprocessing)
        np.testing.assert_array_equal(shown, display_image(scene(60, 70), preprocessing))
        assert shown.flags.c_contiguous

    def test_unpreprocess_clips(self):
        x = np.stack([np.full((2, 2), value, np.float32) for value in (-1e9, 0.502, 1e9)])
        assert unpreprocess(x, Preprocessing(size=(2, 2), rescale=1 / 255))[0, 0].tolist() == [0, 128, 255]


class TestBands:
    @pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"])
    @pytest.mark.parametrize("shape", [(24, 40), (100, 33), (230, 190)])
    def test_they_are_resized_one_by_one_as_pillow_resizes_real_numbers(self, shape, interpolation):
        pil = pytest.importorskip("PIL.Image")
        bands = np.random.default_rng(0).normal(1000, 300, (*shape, 6)).astype(np.float32)
        preprocessing = Preprocessing(size=(40, 56), interpolation=interpolation, mean=(0.0,) * 6)
        found = display_image(bands, preprocessing)
        assert (found.shape, found.dtype) == ((40, 56, 6), np.float32)
        way = getattr(pil.Resampling, interpolation.upper())
        for c in range(6):
            expected = np.asarray(pil.fromarray(bands[..., c]).resize((56, 40), way))
            np.testing.assert_allclose(found[..., c], expected, rtol=2e-5, atol=2e-3)

    @pytest.mark.parametrize("resize", ["squash", "crop", "squash_crop", "crop_first"])
    def test_they_are_cut_as_a_photo_is(self, resize):
        photo = scene(70, 90)
        fields = {"size": (24, 24), "resize": resize, "crop_fraction": 0.875 if resize != "squash" else 1.0}
        seen = display_image(photo, Preprocessing(**fields))
        bands = display_image(photo.astype(np.float32), Preprocessing(**fields, channel_order="bands"))
        assert np.abs(bands - seen).max() <= 0.5 + 1e-3

    def test_grey_is_resized_as_colours_are(self):
        photo = scene(900, 700)  # large enough that whole blocks are averaged first
        grey = display_image(photo[..., :1], Preprocessing(size=(24, 40), mean=(0.0,)))
        np.testing.assert_array_equal(grey, display_image(photo, Preprocessing(size=(24, 40)))[..., :1])
        large = display_image(photo.astype(np.float32), Preprocessing(size=(24, 40), channel_order="bands"))
        assert np.abs(large - display_image(photo, Preprocessing(size=(24, 40)))).max() <= 1
