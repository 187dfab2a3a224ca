"""Maps over photos: in colours, as lines, as the outline of the top share, and as differences."""

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.picture import (
    COLORMAPS,
    STYLES,
    color_table,
    difference_scale,
    overlay,
    overlay_difference,
    panel,
    styles,
)
from fusioncam.runtime.picture.colors import difference_tables
from fusioncam.runtime.picture.styles import LEVELS, top_pixels


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), (30, 120, 90), np.uint8)


def bump(height: int = 48, width: int = 64) -> np.ndarray:
    """A map that is 1 in the middle and 0 at the border."""
    y, x = (np.sin(np.linspace(0, np.pi, n)).clip(0) for n in (height, width))
    return (y[:, None] * x).astype(np.float32)


def cone(size: int) -> np.ndarray:
    """1 in the middle, falling evenly to 0 at half the size: its iso-lines are circles."""
    y, x = np.indices((size, size)) - (size - 1) / 2
    return (1 - np.hypot(y, x) / (size / 2)).clip(0).astype(np.float32)


class TestOverlay:
    def test_photo_where_nothing_is_salient_and_colour_where_all_is(self):
        zero, one = (overlay(photo(), np.full((48, 64), v, np.float32), "inferno", 1.0) for v in (0, 1))
        top = cv2.applyColorMap(np.array([[255]], np.uint8), cv2.COLORMAP_INFERNO)[0, 0, ::-1]
        np.testing.assert_array_equal(one, np.broadcast_to(top, (48, 64, 3)))
        grey = cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY)[..., None]
        assert np.abs(zero - (0.35 * photo() + 0.65 * grey)).max() <= 1

    def test_opacity_zero_ignores_the_map(self):
        blank = np.zeros((48, 64), np.float32)
        np.testing.assert_array_equal(overlay(photo(), bump(), opacity=0), overlay(photo(), blank))

    def test_values_outside_the_range_and_nan_are_tamed(self):
        wild = np.array([[np.nan, -5, 0], [1, 7, np.inf]], np.float32)
        tame = np.array([[0, 0, 0], [1, 1, 1]], np.float32)
        np.testing.assert_array_equal(overlay(photo(2, 3), wild), overlay(photo(2, 3), tame))

    @pytest.mark.parametrize("colormap", COLORMAPS)
    def test_arguments_stay_as_they_were(self, colormap):
        base, saliency = photo(), bump()
        result = overlay(base, saliency, colormap)
        assert (result.shape, result.dtype) == ((48, 64, 3), np.uint8)
        np.testing.assert_array_equal(base, photo())
        np.testing.assert_array_equal(saliency, bump())

    def test_unknown_colour_map(self):
        with pytest.raises(UsageError, match="no colour map 'beige'"):
            overlay(photo(), bump(), "beige")

    @pytest.mark.parametrize("wrong", [np.nan, np.inf, None, "1", 1j, [1], 10**99, -0.01, 1.01])
    def test_an_opacity_that_makes_no_sense(self, wrong):
        with pytest.raises(UsageError, match="opacity must be a number from 0 to 1"):
            overlay(photo(), bump(), opacity=wrong)

    @pytest.mark.parametrize("wrong", [[], {}, None, 7])
    def test_a_colour_map_that_is_no_name(self, wrong):
        with pytest.raises(UsageError, match="no colour map"):
            overlay(photo(), bump(), wrong)
        with pytest.raises(UsageError, match="no colour map"):
            panel(photo(), {"a": bump()}, "a", colormap=wrong)

    @pytest.mark.parametrize("wrong", ["pie", None, 3, "HEAT", []])
    def test_a_style_that_is_none(self, wrong):
        with pytest.raises(UsageError, match=r"no style .*heat, contour, top"):
            overlay(photo(), bump(), style=wrong)

    @pytest.mark.parametrize("wrong", [0, -1, 100.5, np.nan, np.inf, None, "20", 1j])
    def test_a_share_that_makes_no_sense(self, wrong):
        with pytest.raises(UsageError, match="top must be a number of percent"):
            overlay(photo(), bump(), style="top", top=wrong)

    @pytest.mark.parametrize("style", STYLES)
    @pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (2, 2), (5, 700), (61, 47)])
    def test_every_style_at_any_size(self, style, size):
        base = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
        kept = base.copy()
        for saliency in (np.zeros(size), np.ones(size), np.full(size, 0.5), bump(*size), np.full(size, np.nan)):
            drawn = overlay(base, saliency.astype(np.float32), style=style)
            assert (drawn.shape, drawn.dtype) == (base.shape, np.uint8)
        np.testing.assert_array_equal(base, kept)

    @pytest.mark.parametrize("style", STYLES)
    def test_pieces_do_not_show(self, monkeypatch, style):
        base = np.random.default_rng(1).integers(0, 256, (131, 170, 3), dtype=np.uint8)
        saliency = cv2.resize(np.random.default_rng(2).random((7, 7), np.float32), (170, 131))
        whole = overlay(base, saliency, style=style)
        monkeypatch.setattr(styles, "BAND", 1000)
        monkeypatch.setattr(styles, "ACROSS", 37)
        np.testing.assert_array_equal(overlay(base, saliency, style=style), whole)


class TestContour:
    def test_lines_are_where_the_map_has_their_level_in_its_colour(self):
        drawn = overlay(photo(400, 400), cone(400), style="contour").astype(int)
        colors = color_table("plasma")
        for level in LEVELS:
            at = 199.5 + (1 - level) * 200 * np.array([np.cos(0.3), np.sin(0.3)])
            y, x = np.rint(at).astype(int)
            assert np.abs(drawn[y, x] - colors[round(level * 255)]).max() <= 40
        between = drawn[200, 200 + 75]
        np.testing.assert_array_equal(between, drawn[200, 200])

    def test_lines_are_smooth(self):
        # The ink of an anti-aliased circle is the same in every direction; that of a staircase is not.
        distance = styles.edge_distance(cone(400), 0.5, cone(400) >= 0.5)
        y, x = np.indices((400, 400)) - 199.5
        np.testing.assert_allclose(distance[distance < 3], np.abs(np.hypot(y, x) - 100)[distance < 3], atol=0.3)

    def test_a_plain_at_a_level_is_not_filled(self):
        saliency = np.zeros((200, 200), np.float32)
        saliency[50:150, 50:150] = 0.5
        drawn = overlay(photo(200, 200), saliency, style="contour")
        background = drawn[5, 5]
        np.testing.assert_array_equal(drawn[100, 100], background)
        assert (drawn[100, 45:55] != background).any()

    @pytest.mark.parametrize("value", [0, 0.5, 1])
    def test_a_constant_map_has_no_lines(self, value):
        drawn = overlay(photo(), np.full((48, 64), value, np.float32), style="contour")
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1

    def test_lines_grow_with_the_picture(self):
        share = [
            (
                overlay(photo(n, n), cone(n), style="contour") != overlay(photo(n, n), 0 * cone(n), style="contour")
            ).mean()
            for n in (600, 1200)
        ]
        assert share[1] == pytest.approx(share[0], rel=0.1)


class TestTop:
    @pytest.mark.parametrize("percent", [0.01, 1, 20, 50, 99.9, 100])
    @pytest.mark.parametrize("size", [(1, 1), (48, 64), (33, 7)])
    def test_so_many_pixels_and_the_most_salient(self, percent, size):
        saliency = np.random.default_rng(0).random(size, np.float32) + np.float32(0.01)
        chosen = top_pixels(saliency, percent)
        assert chosen.sum() == max(round(percent / 100 * saliency.size), 1)
        assert saliency[chosen].min() >= saliency[~chosen].max(initial=0)

    def test_equal_pixels_count_from_the_top_left(self):
        saliency = np.full((4, 5), 0.5, np.float32)
        saliency[3, 4] = 1
        chosen = top_pixels(saliency, 20)
        assert np.argwhere(chosen).tolist() == [[0, 0], [0, 1], [0, 2], [3, 4]]

    def test_what_is_not_salient_never_counts(self):
        saliency = np.zeros((10, 10), np.float32)
        assert not top_pixels(saliency, 20).any()
        saliency[4:6, 4:6] = 0.1
        np.testing.assert_array_equal(top_pixels(saliency, 20), saliency > 0)
        np.testing.assert_array_equal(top_pixels(saliency - np.float32(0.05), 20), saliency > 0)

    def test_a_blank_map_outlines_nothing(self):
        drawn = overlay(photo(), np.zeros((48, 64), np.float32), style="top")
        assert len(np.unique(drawn.reshape(-1, 3), axis=0)) == 1

    def test_the_photo_inside_a_line_around_it_and_dark_outside(self):
        base = photo(200, 200)
        drawn = overlay(base, cone(200), style="top", top=20)
        radius = np.sqrt(0.2 * 200 * 200 / np.pi)
        np.testing.assert_array_equal(drawn[100, 100], base[100, 100])
        assert drawn[100, round(99.5 + radius)].min() > 180
        assert drawn[5, 5].max() < base[5, 5].max() / 1.5

    def test_opacity_zero_leaves_the_photo_but_for_the_line(self):
        drawn = overlay(photo(200, 200), cone(200), opacity=0, style="top")
        np.testing.assert_array_equal(drawn[[5, 100], [5, 100]], photo(200, 200)[[5, 100], [5, 100]])


class TestDifference:
    def test_signs_have_their_colours_and_nothing_has_none(self):
        against, for_it = difference_tables()
        signed = np.array([[-1, 0, 1, np.nan]], np.float32)
        drawn = overlay_difference(photo(1, 4), signed, 1.0)
        np.testing.assert_array_equal(drawn[0, 0], against[255])
        np.testing.assert_array_equal(drawn[0, 2], for_it[255])
        np.testing.assert_array_equal(drawn[0, [1, 3]], overlay(photo(1, 2), np.zeros((1, 2), np.float32))[0])

    def test_classes_the_other_way_round_give_the_other_colour_to_the_same_pixels(self):
        signed = bump() - 0.4
        one, other = (overlay_difference(np.full((48, 64, 3), 255, np.uint8), s).astype(int) for s in (signed, -signed))
        clear = np.abs(signed) > 0.02
        np.testing.assert_array_equal((one[..., 0] > one[..., 2])[clear], (signed > 0)[clear])
        np.testing.assert_array_equal((other[..., 0] > other[..., 2])[clear], (signed < 0)[clear])

    def test_both_sides_are_equally_dark_at_every_step(self):
        lightness = [cv2.cvtColor(table[None], cv2.COLOR_RGB2LAB)[0, :, 0].astype(int) for table in difference_tables()]
        assert np.abs(lightness[0] - lightness[1]).max() <= 6  # of 255

    @pytest.mark.parametrize(
        ("largest", "scale"), [(1, 1), (0.3, 0.3), (0.05, 0.05), (0.01, 0.05), (0.004, 0), (1e-7, 0), (0, 0), (3, 1)]
    )
    def test_the_largest_difference_gets_full_colours_but_noise_none(self, largest, scale):
        signed = bump(49, 65) * np.float32(-largest)  # -largest itself in the middle
        assert difference_scale(signed) == pytest.approx(scale)
        share = np.float32([[-min(largest / scale, 1) if scale else 0]])
        drawn, expected = overlay_difference(photo(49, 65), signed), overlay_difference(photo(1, 1), share, scale=1)
        np.testing.assert_allclose(drawn[24, 32], expected[0, 0], atol=1)

    def test_arguments_stay_as_they_were(self):
        base, signed = photo(), bump() - 0.5
        overlay_difference(base, signed)
        np.testing.assert_array_equal(base, photo())
        np.testing.assert_array_equal(signed, bump() - 0.5)
