"""Points and masks of a photo on the grid of the maps, and regions back on the photo."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from fusioncam import Preprocessing
from fusioncam.errors import ImageError, UsageError
from fusioncam.runtime.photos.geometry import display_image, on_photo, visible_slices
from fusioncam.runtime.targets.sight import Sight, connected, mask_of, region_on_input

WAYS = (
    {"resize": "squash"},
    {"resize": "crop", "crop_fraction": 0.875},
    {"resize": "squash_crop", "crop_fraction": 0.75},
    {"resize": "crop_first", "crop_fraction": 0.8},
)


def sight(photo_size, way, size=(24, 32), grid=(6, 8)):
    preprocessing = Preprocessing(size=size, **way)
    manifest = SimpleNamespace(preprocessing=preprocessing, map_size=grid, ending="softmax")
    return Sight(manifest, np.zeros((3, *size), np.float32), photo_size, None)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["resize"])
@pytest.mark.parametrize("photo_size", [(96, 128), (150, 70), (37, 91)])
def test_a_point_lies_in_the_cell_that_shows_it(way, photo_size):
    seen, own = sight(photo_size, way), Preprocessing(size=(24, 32), **way)
    rows, columns = visible_slices(photo_size, own)
    rng = np.random.default_rng(0)
    for _ in range(20):
        y, x = int(rng.integers(*_bounds(rows))), int(rng.integers(*_bounds(columns)))
        cells = np.zeros((6, 8), np.float32)
        cells[seen.cell((x, y))] = 1
        enlarged = cells.repeat(4, 0).repeat(4, 1)
        assert on_photo(enlarged, photo_size, own)[y, x] >= 0.25  # at least half of it along both axes
    for x, y in ((columns.start - 1, rows.start), (columns.start, rows.stop)):
        if 0 <= x < photo_size[1] and 0 <= y < photo_size[0]:
            with pytest.raises(UsageError, match="lies where the photo is cropped"):
                seen.cell((x, y))


def _bounds(part):
    return part.start, part.stop


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["resize"])
@pytest.mark.parametrize("photo_size", [(96, 128), (151, 70), (37, 91), (24, 32)])
def test_a_mask_is_averaged_over_cells(way, photo_size):
    seen, own = sight(photo_size, way), Preprocessing(size=(24, 32), **way)
    y, x = np.mgrid[: photo_size[0], : photo_size[1]]
    mask = (y > photo_size[0] * 0.3) & (x + y < sum(photo_size) * 0.6)
    shares = seen.shares(mask)
    assert shares.shape == (6, 8)
    assert shares.dtype == np.float32
    whole = sight(photo_size, way, grid=(1, 1)).shares(mask)
    assert shares.mean() == pytest.approx(float(whole[0, 0]), abs=1e-5)  # cells are of one size, and leave nothing out
    # The photo's own filter is wider than a pixel, so both agree but for the edges of cells.
    drawn = display_image(np.repeat(mask[..., None].astype(np.uint8) * 255, 3, 2), own)[..., 0] / 255
    blocks = drawn.reshape(6, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(shares, blocks, atol=0.12)
    assert np.abs(shares - blocks).mean() < 0.02


def test_a_mask_of_the_input_itself_is_averaged_exactly():
    mask = np.random.default_rng(0).random((24, 32)) > 0.5
    exact = mask.reshape(6, 4, 8, 4).mean((1, 3))
    np.testing.assert_allclose(sight(None, {}).shares(mask), exact, atol=1e-7)
    np.testing.assert_allclose(sight((48, 64), {}).shares(mask.repeat(2, 0).repeat(2, 1)), exact, atol=1e-7)
    uneven = sight(None, {}, grid=(7, 5)).shares(mask)
    fine = mask.repeat(7, 0).repeat(5, 1).reshape(7, 24, 5, 32).mean((1, 3))
    np.testing.assert_allclose(uneven, fine, atol=1e-6)


@pytest.mark.parametrize(
    ("point", "words"),
    [
        ((64, 3), r"\(64, 3\) lies outside of the photo: it has 64 x 48 pixels"),
        ((-0.5, 3), "outside of the photo"),
        ((3, 48), "outside of the photo"),
        ((float("nan"), 3), "outside of the photo"),
        ("ab", "a point is"),
        (5, "a point is"),
        ((1, 2, 3), "a point is"),
        (("a", 2), "a point is"),
    ],
)
def test_no_point_of_the_photo(point, words):
    with pytest.raises(UsageError, match=words):
        sight((48, 64), {}).cell(point)


def test_corners_are_points():
    seen = sight((48, 64), {})
    assert [seen.cell(p) for p in ((0, 0), (63, 47), (63.9, 0), (31, 24), (32, 23))] == [
        (0, 0), (5, 7), (0, 7), (3, 3), (2, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((48, 63)), r"the mask has 63 x 48 pixels, but the photo has 64 x 48"),
        (np.zeros((48, 64)), "the mask is empty"),
        (np.full((48, 64), np.nan), "NaN"),
        (np.full((48, 64), -1.0), "below zero"),
        (np.ones((48, 64, 3)), "a mask is an array"),
        (np.array(["a"]), "a mask is an array"),
        (7, "a mask is an array"),
    ],
)
def test_no_mask_of_the_photo(mask, words):
    with pytest.raises(UsageError, match=words):
        sight((48, 64), {}).shares(mask)


def test_a_mask_in_the_border_that_is_cropped():
    mask = np.zeros((48, 200), bool)
    mask[:, :5] = True
    with pytest.raises(UsageError, match="nothing of the mask is left"):
        sight((48, 200), {"resize": "crop"}).shares(mask)


def test_masks_are_read_from_files(tmp_path):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:50] = 3
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    np.save(tmp_path / "mask.npy", mask)
    for given in (tmp_path / "mask.png", str(tmp_path / "mask.npy"), mask, mask[..., None], mask > 0, mask / 255):
        np.testing.assert_array_equal(mask_of(given), mask > 0)
    with pytest.raises(ImageError, match="there is no picture"):
        mask_of(tmp_path / "none.png")
    with pytest.raises(UsageError, match="cannot read"):
        mask_of(tmp_path / "none.npy")


def test_parts_touch_at_corners():
    wins = np.array([[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    assert connected(wins, (0, 0)).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert connected(wins, (1, 3)).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_a_region_is_drawn_at_the_size_of_the_input():
    weights = np.zeros((6, 8), np.float32)
    weights[2:4, 3:6] = 0.2  # a thin mask: no cell is full of it
    drawn = region_on_input(weights, Preprocessing(size=(24, 32)))
    assert (drawn >= 0.5).sum() == pytest.approx(2 * 3 * 16, rel=0.2)
    assert drawn[10:14, 14:22].min() == 1
