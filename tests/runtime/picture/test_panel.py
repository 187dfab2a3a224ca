"""The panel: nothing cropped, everything in its place, the same pixels every time."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.picture import MARGIN, METHOD_TITLES, Badge, overlay, overlay_difference, panel
from fusioncam.runtime.picture.facts import HEADLINE, PROBABILITY, VALUE, VERDICTS
from fusioncam.runtime.picture.legend import SMALL
from fusioncam.runtime.picture.panel import TILE_TITLE
from fusioncam.runtime.picture.text import TextStyle, text_width, write

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


def place(sheet: np.ndarray, part: np.ndarray) -> tuple[int, int]:
    """(left, top) of a part that is in the sheet, pixel for pixel."""
    found = cv2.matchTemplate(sheet, np.ascontiguousarray(part), cv2.TM_SQDIFF)
    # Differences come from a Fourier transform and are rounded: the pixels are compared.
    left, top = cv2.minMaxLoc(found)[2]
    np.testing.assert_array_equal(sheet[top : top + part.shape[0], left : left + part.shape[1]], part)
    return left, top


def holds(sheet: np.ndarray, text: str, style: TextStyle = SMALL) -> bool:
    """Return True where a line of text stands in the sheet."""
    line = np.full((style.leading, text_width(text, style) + 2, 3), 255, np.uint8)
    write(line, text, 1, 0, style)
    rows, columns = (np.flatnonzero(ink(line).any(axis=axis)) for axis in (1, 0))
    part = line[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    left, top = cv2.minMaxLoc(cv2.matchTemplate(sheet, np.ascontiguousarray(part), cv2.TM_SQDIFF))[2]
    return np.array_equal(sheet[top : top + part.shape[0], left : left + part.shape[1]], part)


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Contrast ratio of two colours by WCAG 2."""
    parts = np.array((one, other)) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ (0.2126, 0.7152, 0.0722))
    return (high + 0.05) / (low + 0.05)


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

    def test_each_difference_has_colours_to_its_largest_value_and_a_bar_that_says_it(self):
        base, signed = np.full((256, 300, 3), (30, 120, 90), np.uint8), bump(256, 300) - 0.25
        maps = {"fusion_cam": 0.8 * signed, "grad_cam": 0.1 * signed, "score_cam": 1e-7 * signed}
        sheet = panel(base, maps, "why a and not b", between=("cat", "dog"))
        for text in ("-0.6", "+0.6", "-0.075", "+0.075", "towards cat", "towards dog"):
            assert holds(sheet, text), text
        assert holds(sheet, "no difference (below 0.005)")
        for method in ("fusion_cam", "grad_cam"):
            place(sheet, overlay_difference(base, maps[method])[10:-10, 10:-10])
        assert_margins_are_white(sheet)

    @pytest.mark.parametrize("size", [(640, 40), (256, 300), (32, 32)])
    def test_names_of_differences_stay_below_their_bar(self, size):
        names = ("Staffordshire bullterrier, Staffordshire bull terrier", f"bull {'W' * 60}")
        sheet = panel(photo(*size), {m: bump(*size) - 0.5 for m in ("fusion_cam", "grad_cam")}, "x", between=names)
        assert holds(sheet, "towards Staffordshire")
        assert holds(sheet, "towards bull")
        assert_margins_are_white(sheet)

    @pytest.mark.parametrize(
        ("style", "said"),
        [
            ("heat", ["Evidence for the class, relative to", "0.5"]),
            ("contour", ["Lines of equal evidence, relative", "0.25", "0.75"]),
            ("top", ["Outlined: the 12 % of the pixels"]),
        ],
    )
    def test_the_legend_says_what_colours_and_lines_mean(self, style, said):
        sheet = panel(photo(256, 256), {"grad_cam": bump(256, 256)}, "cat", style=style, top=12)
        for text in said:
            assert holds(sheet, text), text

    @pytest.mark.parametrize("size", [(640, 40), (224, 224), (40, 640)])
    def test_facts_and_verdict_are_whole_or_cut_in_the_middle(self, size):
        facts = {
            "Photo": f"first-{'x' * 900}-last.jpg",
            "Model": "net.fcam",
            "Layer": "снимок/猫",
            "Made by": "us\n\x00",
        }
        verdict = Badge("weak", "Fusion-CAM is weak, unstable", ["support 0.1", "word " * 99])
        sheet = panel(photo(*size), {"grad_cam": bump(*size)}, "cat", 0.5, ["note " * 99], facts=facts, verdict=verdict)
        for text in ("net.fcam", "first-xxx", "-last.jpg", "support 0.1"):
            assert holds(sheet, text, VALUE), text
        assert holds(sheet, "Photo")
        ink_of_title, ground = VERDICTS["weak"]
        assert (sheet == ground).all(axis=2).any()
        assert (sheet == ink_of_title).all(axis=2).any()
        assert_margins_are_white(sheet)

    def test_words_have_contrast(self):
        white = (255, 255, 255)
        pairs = [(style.color, white) for style in (HEADLINE, PROBABILITY, TILE_TITLE, SMALL, VALUE)]
        for text, ground in [*pairs, *VERDICTS.values()]:
            assert contrast(text, ground) >= 4.5, (text, ground)

    def test_a_long_title_takes_a_second_line_above_every_tile(self):
        short, long = (
            panel(photo(), dict.fromkeys(names, bump()), "cat")
            for names in (["grad_cam", "score_cam"], ["grad_cam", "fusion_cam:layer_cam+group_cam:12.5"])
        )
        assert long.shape[0] > short.shape[0]
        assert_margins_are_white(long)
