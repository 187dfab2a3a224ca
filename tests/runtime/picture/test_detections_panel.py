"""The panel of detections: a row for each, nothing cropped, whatever the photo and the boxes are like."""

import numpy as np
import pytest

from fusioncam.runtime.picture import MARGIN, DrawOptions
from fusioncam.runtime.picture.detections_panel import DetectionRow, detections_panel
from fusioncam.runtime.picture.facts import Badge, Facts, Headline
from fusioncam.runtime.picture.marks import COLORS, Mark

METHODS = ("fusion_cam", "grad_cam", "score_cam")
FACTS = Facts({"Photo": "street.jpg", "Model": "yolo.fcam"}, ["a remark " * 30])


def row(box, n=0, maps=METHODS, **more):
    saliency = np.zeros((20, 20), np.float32)
    saliency[8:12, 8:12] = 1
    marks = [Mark(box, "", COLORS[n % len(COLORS)])]
    return DetectionRow(f"{n} person 0.87", "at 1, 2", COLORS[n % 8], marks, dict.fromkeys(maps, saliency), **more)


def draw(photo, rows, **options):
    return detections_panel(photo, rows, Headline("2 detections", "", None), FACTS, DrawOptions(**options))


def photo(height=90, width=120):
    return np.full((height, width, 3), 128, np.uint8)


def ink(sheet):
    return (sheet < 250).any(axis=2)


def assert_margins_are_white(sheet):
    marked = ink(sheet)
    assert not marked[:, : MARGIN - 2].any()
    assert not marked[:, -(MARGIN - 2) :].any()
    assert not marked[: MARGIN - 8].any()
    assert not marked[-16:].any()


@pytest.mark.parametrize("size", [(1, 1), (90, 120), (30, 900), (900, 30), (1200, 1600)])
@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("maps", [(), METHODS[:1], METHODS])
def test_any_photo_and_number_of_rows_and_maps(size, count, maps):
    height, width = size
    boxes = [(0, 0, width, height), (width - 1, height - 1, width, height), (0.2, 0.2, 0.4, 0.3)]
    sheet = draw(photo(*size), [row(boxes[n % 3], n, maps) for n in range(count)])
    assert 700 <= sheet.shape[1] <= 1600
    assert_margins_are_white(sheet)


@pytest.mark.parametrize("text", ["word " * 200, "x" * 900, "猫" * 300, "", "tab\tand\nline"])
def test_no_text_is_cropped(text):
    badge = Badge("weak", "Fusion-CAM is weak", [text])
    mark = row((1, 2, 30, 40))
    sheet = draw(photo(), [mark._replace(detail=text, notes=[text], badge=badge)] * 2)
    assert_margins_are_white(sheet)


def test_a_row_for_each_detection_and_its_box_in_every_tile():
    """A box is drawn on the photo of all, on the detail, and on each map."""
    one, two = (draw(photo(), [row((40, 30, 80, 60), n) for n in range(count)]) for count in (1, 2))
    assert two.shape[0] > one.shape[0] + 150
    first = (one == COLORS[0]).all(axis=2)
    assert first.any(axis=0).nonzero()[0].max() > 800  # the last map
    cells = [first[500:, left : left + 240].any() for left in range(MARGIN, MARGIN + 4 * 260, 260)]
    assert cells == [True] * 4


def test_a_row_without_colours_of_others():
    sheet = draw(photo(), [row((10, 10, 30, 30), 0), row((60, 50, 110, 80), 1)])
    first, second = ((sheet == COLORS[n]).all(axis=2).any(axis=1).nonzero()[0] for n in (0, 1))
    assert first.max() < second.max()
    assert second[second > 500].min() > first.max()


@pytest.mark.parametrize("style", ["heat", "contour", "top"])
def test_the_same_arguments_give_the_same_pixels_in_every_style(style):
    rows = [row((40, 30, 80, 60), region=np.eye(20, dtype=np.float32), notes=["a note"])]
    one, two = (draw(photo(), rows, style=style) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, draw(photo(), [rows[0]._replace(region=None)], style=style))
