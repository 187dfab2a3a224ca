"""Text with OpenCV 5, and with OpenCV 4 with and without Pillow."""

import sys
import warnings

import cv2
import numpy as np
import pytest

from fusioncam.runtime.picture import pens
from fusioncam.runtime.picture.pens import FontFacePen, HersheyPen, PillowPen, TextStyle

STYLES = [TextStyle(26, 600, (17, 24, 39)), TextStyle(14, 400, (107, 114, 128))]
ASCII, OTHER = "tench, Tinca tinca 0.64", "crème brûlée, Łódź …"


@pytest.fixture(params=[FontFacePen, PillowPen, HersheyPen], ids=lambda kind: kind.__name__)
def pen(request):
    if request.param is FontFacePen and not hasattr(cv2, "FontFace"):
        pytest.skip("this OpenCV has no font of its own")
    try:
        return request.param()
    except (ImportError, OSError) as error:
        pytest.skip(f"Pillow cannot draw here: {error}")


def drawn(pen, text, style):
    sheet = np.full((60, 600, 3), 255, np.uint8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pen.write(sheet, text, 20, 40, style)
    return sheet, [str(w.message) for w in caught]


@pytest.mark.parametrize("style", STYLES, ids=lambda style: str(style.size))
@pytest.mark.parametrize("text", [ASCII, OTHER])
def test_a_line_takes_the_place_that_it_was_measured_for(pen, text, style):
    sheet, _ = drawn(pen, text, style)
    rows, columns = np.nonzero((sheet < 128).any(axis=2))
    assert 18 <= columns.min() <= 24
    assert abs(columns.max() - (20 + pen.width(text, style))) <= 0.3 * style.size
    assert 40 - 1.2 * style.size < rows.min() < 40 - 0.5 * style.size
    assert 38 <= rows.max() <= 40 + 0.4 * style.size
    assert (sheet == style.color).all(axis=2).any()


def test_letters_of_europe_are_drawn_as_written_or_the_user_is_told(pen):
    assert drawn(pen, ASCII, STYLES[0])[1] == []
    sheet, told = drawn(pen, OTHER, STYLES[0])
    if isinstance(pen, HersheyPen):
        (message,) = told
        assert "install OpenCV 5.0 or later, or Pillow" in message
        np.testing.assert_array_equal(sheet, drawn(pen, "creme brulee, ?odz ...", STYLES[0])[0])
    else:
        assert told == []
        assert not np.array_equal(sheet, drawn(pen, OTHER.replace("è", "e"), STYLES[0])[0])


def test_pillow_tells_of_letters_that_the_font_lacks():
    pytest.importorskip("PIL")
    try:
        pen = PillowPen()
    except OSError:
        pytest.skip("the system has no font")
    assert len(drawn(pen, "a\U000f0000b", STYLES[0])[1]) == 1


def test_the_best_pen_is_taken(monkeypatch):
    assert isinstance(pens.open_pen(), FontFacePen) == hasattr(cv2, "FontFace")
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    monkeypatch.setattr(pens, "FONTS", (("no-such.ttf", "no-such.ttf"),))
    assert isinstance(pens.open_pen(), HersheyPen)  # no font
    monkeypatch.undo()
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert isinstance(pens.open_pen(), HersheyPen)  # no Pillow
