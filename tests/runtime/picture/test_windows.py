"""Windows of a photo: what they hold, and where pixels of photos and maps come to lie."""

import numpy as np
import pytest

from fusioncam.runtime.picture.windows import close_up, cut, cut_map, fitted, whole, with_evidence

SIZE = (300, 400)


def dot(x, y, size=SIZE, shape=(30, 40)):
    """A map whose evidence is one pixel at a place of the photo."""
    saliency = np.zeros(shape, np.float32)
    saliency[int(y * shape[0] / size[0]), int(x * shape[1] / size[1])] = 1
    return saliency


def inside(window, size=SIZE):
    x1, y1, x2, y2 = window
    return 0 <= x1 < x2 <= size[1] and 0 <= y1 < y2 <= size[0]


@pytest.mark.parametrize(
    "box", [(100, 100, 180, 160), (0, 0, 3, 3), (399, 299, 400, 300), (0, 0, 400, 300), (5, 9, 5, 9)]
)
def test_a_close_up_holds_its_box_and_some_photo_around_it(box):
    window = close_up(box, SIZE)
    assert inside(window)
    assert window[0] <= box[0]
    assert window[1] <= box[1]
    assert window[2] >= box[2]
    assert window[3] >= box[3]
    assert min(window[2] - window[0], window[3] - window[1]) >= 24


def test_no_window_is_a_sliver():
    x1, y1, x2, y2 = close_up((100, 150, 300, 152), SIZE)
    assert (x2 - x1) <= 2.1 * (y2 - y1)


def test_a_window_reaches_as_far_as_the_evidence():
    box = (100, 100, 120, 120)
    assert with_evidence(box, dot(110, 110), SIZE) == close_up(box, SIZE)
    window = with_evidence(box, dot(235, 110), SIZE)
    assert window[2] >= 240
    assert inside(window)
    assert with_evidence(box, dot(395, 295), SIZE) == whole(SIZE)
    assert with_evidence(box, np.zeros((3, 4), np.float32), SIZE) == close_up(box, SIZE)


def test_what_is_drawn_is_no_sliver():
    assert fitted((0, 0, 400, 300), (300, 200)) == (150, 200)
    assert fitted((0, 0, 10, 1000), (400, 300)) == (400, 100)
    assert fitted((0, 0, 1000, 10), (400, 300)) == (75, 300)


@pytest.mark.parametrize("shape", [(30, 40), (300, 400), (900, 1200)])
def test_photo_and_map_are_cut_at_the_same_place(shape):
    """A disc in the photo and its map lie over each other in any window."""
    y, x = ((np.arange(n) + 0.5) for n in SIZE)
    disc = np.exp(-((y[:, None] - 160) ** 2 + (x - 210) ** 2) / 2 / 40**2)
    rows, columns = ((np.arange(n) + 0.5) / n * side for n, side in zip(shape, SIZE, strict=True))
    saliency = np.exp(-((rows[:, None] - 160) ** 2 + (columns - 210) ** 2) / 2 / 40**2).astype(np.float32)
    for window, size in (
        ((150, 100, 290, 240), (200, 200)),
        ((0, 0, 400, 300), (60, 80)),
        ((0, 0, 400, 300), (600, 800)),
    ):
        photo = cut(np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2), window, size)
        drawn = cut_map(saliency, window, SIZE, size)
        assert drawn.shape == size
        assert np.abs(drawn - photo[..., 0] / 255).max() < 0.03
