"""Detections on a photo: lines and tags that stay within it, and can be read on anything."""

import numpy as np
import pytest

from fusioncam.runtime.picture.marks import COLORS, INK, Mark, color_of, draw_marks, draw_tag, letters, tag_size
from fusioncam.runtime.picture.text import TextStyle

CYAN = COLORS[0]


def grey(height=90, width=120, value=128):
    return np.full((height, width, 3), value, np.uint8)


def changed(drawn, before):
    """Rows and columns of the smallest box around what was drawn, and how many pixels that are."""
    rows, columns = np.nonzero((drawn != before).any(axis=2))
    return (rows.min(), columns.min(), rows.max(), columns.max()), len(rows)


def luminance(color):
    parts = np.array(color) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)


class TestLines:
    def test_the_line_runs_along_the_edges_of_the_box(self):
        drawn = draw_marks(grey(), [Mark((30, 20, 80, 70), "", CYAN)])
        assert changed(drawn, grey())[0] == (17, 26, 73, 83)  # a line of 2 pixels between dark ones
        for row, column in ((20, 50), (70, 50), (45, 30), (45, 80)):
            near = drawn[row - 1 : row + 1, column - 1 : column + 1].reshape(-1, 3)
            assert (np.abs(near.astype(int) - CYAN).max(axis=1) < 40).any()
        np.testing.assert_array_equal(drawn[25:65, 35:75], grey()[25:65, 35:75])

    def test_the_line_of_a_box_at_the_edges_lies_inside(self):
        drawn = draw_marks(grey(), [Mark((0, 0, 120, 90), "", CYAN)])
        for line in (drawn[:4, 60], drawn[-4:, 60], drawn[45, :4], drawn[45, -4:]):
            assert (line == CYAN).all(axis=1).any()

    def test_a_rotated_box_is_drawn_by_its_corners(self):
        corners = np.array([(60, 10), (90, 45), (60, 80), (30, 45)], float)
        drawn = draw_marks(grey(), [Mark((30, 10, 90, 80), "", CYAN, corners)])
        np.testing.assert_array_equal(drawn[:20, :45], grey()[:20, :45])  # a corner of the upright box
        assert (drawn[40:50, 28:32] != 128).any()

    def test_keypoints_are_dots(self):
        points = np.array([(50.5, 40.5), (500.0, 40.0)])  # one of them beside the picture
        drawn = draw_marks(grey(), [Mark((-50, -50, -40, -40), "", CYAN, None, points)])
        assert (drawn[40, 50] == CYAN).all()
        assert changed(drawn, grey())[1] < 200

    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_a_line_shows_on_any_photo(self, value):
        for color in COLORS:
            drawn = draw_marks(grey(value=value), [Mark((30, 20, 80, 70), "", color)])
            row = [luminance(pixel) for pixel in drawn[45, 25:35]]
            assert max(row) - min(row) > 0.2

    def test_a_window_moves_a_mark(self):
        mark = Mark((30, 20, 80, 70), "dog", CYAN, np.array([(30, 20)]), np.array([(40, 30)]))
        moved = mark.moved((20, 10, 80, 40), (60, 120))
        assert moved.box == (20, 20, 120, 120)
        np.testing.assert_array_equal(moved.corners, [(20, 20)])
        np.testing.assert_array_equal(moved.points, [(40, 40)])


class TestTags:
    def test_the_words_have_contrast_to_every_colour(self):
        for color in COLORS:
            assert (luminance(color) + 0.05) / (luminance(INK) + 0.05) >= 4.5

    def test_classes_have_the_colours_in_turn(self):
        assert [color_of(c) for c in range(len(COLORS) + 1)] == [*COLORS, COLORS[0]]

    def test_tags_of_alike_boxes_cover_none_of_each_other(self):
        marks = [Mark((100, 80, 160, 140), f"{n} person 0.9{n}", color_of(n)) for n in range(6)]
        drawn = draw_marks(grey(300, 300), marks)
        _, height = tag_size("x", TextStyle(letters((300, 300)), 600, INK))
        for mark in marks:
            width, _ = tag_size(mark.tag, TextStyle(letters((300, 300)), 600, INK))
            assert (drawn == mark.color).all(axis=2).sum() > 0.4 * width * height

    @pytest.mark.parametrize(
        "box", [(0, 0, 5, 5), (115, 85, 120, 90), (0, 85, 5, 90), (0, 0, 120, 90), (-9, 95, -5, 99)]
    )
    def test_a_tag_stays_within_the_photo(self, box):
        style = TextStyle(13, 600, INK)
        width, height = tag_size("dog 0.9", style)
        drawn = draw_marks(grey(), [Mark(box, "dog 0.9", CYAN)])
        tag = np.zeros((height, width, 3), np.uint8)
        draw_tag(tag, "dog 0.9", CYAN, (0, 0), style)
        views = np.lib.stride_tricks.sliding_window_view(drawn, tag.shape)[:, :, 0]
        assert (views == tag).all(axis=(2, 3, 4)).any()

    def test_a_tag_that_is_wider_than_the_photo_is_cut(self):
        drawn = draw_marks(grey(20, 20), [Mark((2, 2, 18, 18), "a long name 0.9", CYAN)])
        assert drawn.shape == (20, 20, 3)

    def test_letters_grow_with_the_photo(self):
        assert letters((90, 120)) == 13
        assert letters((3000, 4000)) == 63
