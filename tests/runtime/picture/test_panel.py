"""The panel: nothing cropped, everything in its place, the same pixels every time."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.picture import MARGIN, METHOD_TITLES, overlay, overlay_difference, panel

NAME = "Staffordshire bullterrier, Staffordshire bull terrier"


def photo(height: int = 48, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), (30, 120, 90), np.uint8)


def bump(height: int = 48, width: int = 64) -> np.ndarray:
    """A map that is 1 in the middle and 0 at the border."""
    y, x = (np.sin(np.linspace(0, np.pi, n)).clip(0) for n in (height, width))
    return (y[:, None] * x).astype(np.float32)


def ink(sheet: np.ndarray) -> np.ndarray:
    """(height, width) bool: where the sheet is not white."""
    return (sheet < 250).any(axis=2)


def assert_margins_are_white(sheet: np.ndarray) -> None:
    marked = ink(sheet)
    assert not marked[:, : MARGIN - 2].any()
    assert not marked[:, -(MARGIN - 2) :].any()
    assert not marked[: MARGIN - 8].any()
    assert not marked[-16:].any()


class TestPanel:
    @pytest.mark.parametrize("size", [(1, 1), (32, 32), (224, 224), (600, 300), (300, 600), (640, 40), (40, 640)])
    @pytest.mark.parametrize("count", [0, 1, 3, 10])
    def test_any_size_and_number_of_maps(self, size, count):
        maps = dict.fromkeys(list(METHOD_TITLES)[:count], bump(*size))
        sheet = panel(photo(*size), maps, "tabby cat", 0.87, ["a note"])
        assert sheet.dtype == np.uint8
        assert 400 <= sheet.shape[1] <= 1600
        assert_margins_are_white(sheet)

    @pytest.mark.parametrize(
        "text",
        [
            "word " * 200,
            "x" * 1000,
            "W" * 80,
            "猫" * 300,
            "зебра, " * 60,
            "قط " * 90,
            NAME,
            "tab\tand\nline\r\n break \x00\x1b",
            "\udce9 lone surrogate",
            "🐈" * 200,
            "e\u0301" * 400,
            "",
            " \n ",
        ],
    )
    @pytest.mark.parametrize("count", [0, 3])
    def test_no_text_is_cropped(self, text, count):
        maps = {f"{text}{i}": bump() for i in range(count)}
        sheet = panel(photo(), maps, text, 0.87, [text, text])
        assert_margins_are_white(sheet)

    def test_a_long_name_never_covers_the_probability(self):
        with_chance, without = (panel(photo(), {"grad_cam": bump()}, "W" * 200, p) for p in (0.87, None))
        assert ink(with_chance)[: MARGIN + 60, -100:].any()
        assert_margins_are_white(with_chance)
        assert_margins_are_white(without)

    def test_the_tiles_hold_the_photo_and_the_overlay(self):
        base = cv2.resize(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), (300, 256))
        sheet = panel(base, {"fusion_cam": bump(256, 300)}, "cat", 0.5)
        corners = []
        for tile in (base, overlay(base, bump(256, 300))):
            inner = np.ascontiguousarray(tile[10:-10, 10:-10])
            x, y = cv2.minMaxLoc(cv2.matchTemplate(sheet, inner, cv2.TM_SQDIFF))[2]
            np.testing.assert_array_equal(sheet[y : y + 236, x : x + 280], inner)
            corners.append((x, y))
        assert corners[0][0] == MARGIN + 10
        assert corners[1][0] >= corners[0][0] + 300
        assert corners[1][1] == corners[0][1]

    def test_the_colour_bar_runs_through_the_colour_map(self):
        sheet = panel(photo(), {"grad_cam": bump()}, "cat", colormap="viridis")
        ramp = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_VIRIDIS)[0, :, ::-1]
        row = next(y for y in range(len(sheet) - 1, 0, -1) if (sheet[y] == ramp[128]).all(axis=1).any())
        for value in (20, 128, 235):
            assert (sheet[row] == ramp[value]).all(axis=1).any()

    def test_probability_and_notes_are_drawn(self):
        plain = panel(photo(), {"grad_cam": bump()}, "cat")
        for other in (
            panel(photo(), {"grad_cam": bump()}, "cat", 0.0),
            panel(photo(), {"grad_cam": bump()}, "cat", 0.001),
            panel(photo(), {"grad_cam": bump()}, "cat", None, ["flat map"]),
        ):
            assert ink(other).sum() > ink(plain).sum()

    def test_same_arguments_same_pixels_in_every_thread(self):
        def draw(i: int) -> bytes:
            return panel(photo(), {"grad_cam": bump()}, f"{NAME} 猫 {i % 4}", 0.25 * (i % 4), ["a note"]).tobytes()

        expected = [draw(i) for i in range(4)]
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(draw, range(64))) == expected * 16

    def test_unknown_colour_map(self):
        with pytest.raises(UsageError, match="choose one of"):
            panel(photo(), {}, "cat", colormap="beige")

    @pytest.mark.parametrize("wrong", [{"style": "pie"}, {"top": 0}, {"top": "20"}, {"opacity": 2}])
    def test_a_look_that_makes_no_sense(self, wrong):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            panel(photo(), {"grad_cam": bump()}, "cat", **wrong)

    @pytest.mark.parametrize("style", ["contour", "top"])
    def test_tiles_in_other_styles(self, style):
        base = np.full((256, 300, 3), (30, 120, 90), np.uint8)
        sheet = panel(base, {"fusion_cam": bump(256, 300)}, "cat", 0.5, style=style, top=10, opacity=0.3)
        tile = overlay(base, bump(256, 300), opacity=0.3, style=style, top=10)[10:-10, 10:-10]
        # The place comes from a Fourier transform, and its differences are rounded: the pixels there are compared.
        left, up = cv2.minMaxLoc(cv2.matchTemplate(sheet, np.ascontiguousarray(tile), cv2.TM_SQDIFF))[2]
        np.testing.assert_array_equal(sheet[up : up + tile.shape[0], left : left + tile.shape[1]], tile)
        assert_margins_are_white(sheet)

    def test_a_difference_is_drawn_as_one_and_both_ends_of_the_bar_are_named(self):
        base, signed = np.full((256, 300, 3), (30, 120, 90), np.uint8), bump(256, 300) - 0.5
        sheet = panel(base, {"fusion_cam": signed}, "why a and not b", between=("a" * 60, "b" * 60))
        tile = overlay_difference(base, signed)[10:-10, 10:-10]
        assert cv2.minMaxLoc(cv2.matchTemplate(sheet, np.ascontiguousarray(tile), cv2.TM_SQDIFF))[0] == 0
        assert_margins_are_white(sheet)
        nameless = panel(base, {"fusion_cam": signed}, "why a and not b", between=("", ""))
        names = ink(sheet).sum(axis=0) - ink(nameless).sum(axis=0)
        assert names[-MARGIN - 120 :].any()
        assert names[-MARGIN - 250 : -MARGIN - 135].any()

    def test_a_long_title_takes_a_second_line_above_every_tile(self):
        short, long = (
            panel(photo(), dict.fromkeys(names, bump()), "cat")
            for names in (["grad_cam", "score_cam"], ["grad_cam", "fusion_cam:layer_cam+group_cam:12.5"])
        )
        assert long.shape[0] > short.shape[0]
        assert_margins_are_white(long)
