"""Boxes, polygons and masks as pixels."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusioncam.runtime.evaluation.annotations.outlines import Box, MaskFile, Polygons, RunLengths, numbers, unpacked


def packed(runs):
    """COCO's compressed run lengths, after rleToString of pycocotools."""
    text = ""
    for i, run in enumerate(runs):
        x = run - runs[i - 2] if i > 2 else run
        more = True
        while more:
            bits = x & 31
            x >>= 5
            more = x != (-1 if bits & 16 else 0)
            text += chr((bits | (32 if more else 0)) + 48)
    return text


def runs_of(mask):
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff([0, *edges, flat.size]).tolist()
    return lengths if not flat[0] else [0, *lengths]


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        ((1, 2, 4, 5), (slice(2, 5), slice(1, 4))),
        ((0, 0, 10, 8), (slice(0, 8), slice(0, 10))),
        ((-5, -5, 3, 3), (slice(0, 3), slice(0, 3))),  # clipped
        ((7.4, 5.6, 99, 99), (slice(6, 8), slice(7, 10))),  # pixels whose centre is inside
        ((3.6, 3.6, 3.9, 3.9), (slice(3, 4), slice(3, 4))),  # smaller than a pixel
    ],
)
def test_a_box(box, pixels):
    wanted = np.zeros((8, 10), bool)
    wanted[pixels] = True
    np.testing.assert_array_equal(Box(*box).draw((8, 10)), wanted)


@pytest.mark.parametrize("box", [(20, 2, 30, 5), (4, 4, 4, 6), (5, 5, 3, 3), (-9, -9, -1, -1)])
def test_boxes_that_hold_nothing(box):
    assert not Box(*box).draw((8, 10)).any()


def test_polygons_are_filled_and_united():
    square, triangle = [2, 2, 12, 2, 12, 12, 2, 12], [20, 20, 40, 20, 20, 40]
    outline = Polygons.of([square, triangle])
    mask = outline.draw((50, 60))
    assert outline.bounds == (2, 2, 40, 40)
    np.testing.assert_array_equal(mask[:16, :16], Box(2, 2, 12, 12).draw((16, 16)))
    assert abs(int(mask[16:].sum()) - 200) <= 10  # half of the pixels on the slope
    # Two that overlap do not cancel out.
    assert Polygons.of([square, square]).draw((50, 60)).sum() == mask[:16, :16].sum()


def test_a_polygon_far_outside():
    assert Polygons.of([[-1e9, -1e9, 1e9, -1e9, 1e9, 1e9, -1e9, 1e9]]).draw((6, 7)).all()
    assert not Polygons.of([[-1e9, 0, -1e8, 0, -1e8, 6]]).draw((6, 7)).any()


def test_a_polygon_point_by_point():
    """Every pixel by OpenCV's test of its centre; a star, whose outline goes in and out."""
    angle = np.linspace(0, 2 * np.pi, 11)[:-1]
    radius = np.where(np.arange(10) % 2, 7.0, 18.0)
    star = np.stack([20.3 + np.cos(angle) * radius, 17.1 + np.sin(angle) * radius], axis=1).astype(np.float32)
    wanted = [[cv2.pointPolygonTest(star, (x + 0.5, y + 0.5), False) > 0 for x in range(38)] for y in range(34)]
    np.testing.assert_array_equal(Polygons.of([star.ravel().tolist()]).draw((34, 38)), wanted)


@pytest.mark.parametrize("annotated", [(400, 600), (20, 30), (400_000, 600_000), (60, 90)])
def test_outlines_of_another_size_are_drawn_at_the_photos(annotated):
    size, scale = (40, 60), annotated[0] / 40
    box, star = [6, 4, 30, 20], [10, 4, 40, 8, 20, 36]
    for outline, wanted in (
        (Box(*(n * scale for n in box)), Box(*box)),
        (Polygons.of([[n * scale for n in star]]), Polygons.of([star])),
    ):
        np.testing.assert_array_equal(outline.draw(size, annotated), wanted.draw(size))


def test_masks_of_the_annotated_size_are_brought_to_the_photos(tmp_path):
    mask = np.zeros((8, 12), np.bool_)
    mask[2:6, 3:9] = True
    cv2.imwrite(str(tmp_path / "mask.png"), mask.astype(np.uint8) * 255)
    for outline in (RunLengths(tuple(runs_of(mask)), (8, 12)), MaskFile.of(tmp_path / "mask.png")):
        np.testing.assert_array_equal(outline.draw((24, 36), (8, 12)), mask.repeat(3, 0).repeat(3, 1))
        np.testing.assert_array_equal(outline.draw((4, 6), (8, 12)), mask[1::2, 1::2])
        with pytest.raises(ValueError, match="12 x 8, not 13 x 8"):
            outline.draw((8, 12), (8, 13))


FAR_POINTS = st.one_of(st.floats(-1e12, 1e12), st.floats(-99, 99), st.sampled_from([0.0, -0.0, 5e-324, 1e12, 12.5]))


@settings(max_examples=60, deadline=None)
@given(points=st.lists(FAR_POINTS, min_size=6, max_size=12).filter(lambda p: len(p) % 2 == 0), big=st.booleans())
def test_whatever_numbers_there_are_it_is_drawn_without_a_warning(points, big):
    annotated = (1 << 19, 1 << 20) if big else (1, 1)
    assert Polygons.of([points]).draw((4, 8), annotated).shape == (4, 8)
    assert Box(*points[:4]).draw((4, 8), annotated).shape == (4, 8)


@pytest.mark.parametrize("far", [1e308, -1e308, 1e13, 10**300])
def test_points_further_away_than_anything_lies(far):
    with pytest.raises(ValueError, match="number is out of range"):
        Polygons.of([[0, 0, far, 5, 5, 5]])


@pytest.mark.parametrize(
    "bad", [[[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, "5", 6]], [[0, 0, 1, 1, 2, float("nan")]]]
)
def test_polygons_that_are_none(bad):
    with pytest.raises(ValueError, match=r"three points|number"):
        Polygons.of(bad)


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_compressed_or_not(seed):
    rng = np.random.default_rng(seed)
    mask = cv2.resize(rng.random((5, 7)), (90, 60)) > 0.5
    runs = runs_of(mask)
    for counts in (runs, packed(runs)):
        np.testing.assert_array_equal(RunLengths.of({"size": [60, 90], "counts": counts}).draw((60, 90)), mask)
    assert list(unpacked(packed(runs))) == runs


def test_a_string_from_pycocotools():
    # pycocotools.mask.encode of a 4 x 6 mask that is 1 at rows 1..2, columns 2..4.
    mask = np.zeros((4, 6), bool)
    mask[1:3, 2:5] = True
    assert runs_of(mask) == [9, 2, 2, 2, 2, 2, 5]
    assert unpacked("9220003") == (9, 2, 2, 2, 2, 2, 5)


@pytest.mark.parametrize(
    "code",
    [
        None,
        {"size": [4, 6]},
        {"size": [4], "counts": [24]},
        {"size": [4, 6], "counts": [20]},
        {"size": [4, 6], "counts": [25, -1]},
        {"size": [-4, -6], "counts": [24]},
        {"size": [1 << 20, 1 << 20], "counts": [1 << 40]},
        {"size": [4, 6], "counts": "\x00"},
        {"size": [4, 6], "counts": "P" * 40},
        {"size": [4, 6], "counts": "é"},
    ],
)
def test_damaged_run_lengths(code):
    with pytest.raises(ValueError, match=r"mask|number"):
        RunLengths.of(code)


def test_masks_of_another_size_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "mask.png"), np.eye(5, dtype=np.uint8) * 255)
    outline = MaskFile(tmp_path / "mask.png")
    np.testing.assert_array_equal(outline.draw((5, 5)), np.eye(5, dtype=bool))
    for wrong in (outline, RunLengths((25,), (5, 5))):
        with pytest.raises(ValueError, match="5 x 5, not 6 x 5"):
            wrong.draw((5, 6))


@pytest.mark.parametrize("bad", ["1234", [1, 2, 3], [1, 2, True, 4], [1, 2, float("inf"), 3], [1, 2, 3, 10**400], None])
def test_four_numbers(bad):
    assert numbers([1, 2.5, -3, 4], 4) == (1, 2.5, -3, 4)
    with pytest.raises(ValueError, match="number"):
        numbers(bad, 4)
