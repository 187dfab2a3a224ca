"""The words of a panel: headline, verdict, where the result comes from, and remarks."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.picture.legend import SMALL, round_corners
from fusioncam.runtime.picture.text import TextStyle, text_width, wrap, write

HEADLINE = TextStyle(26, 600, (17, 24, 39))
PROBABILITY = TextStyle(26, 400, (107, 114, 128))
VALUE = TextStyle(SMALL.size, 400, (31, 41, 55))
PILL = TextStyle(SMALL.size, 600, VALUE.color)
PILL_HEIGHT, PILL_PAD = SMALL.leading + 6, 10
GAP = 12
LEAST_BESIDE = 360  # pixels of text beside something else; with less, the text goes below
ANY_WIDTH = 1 << 20

Rgb = tuple[int, int, int]
# Ink and ground of each verdict; the ink's contrast to its ground is 5.9:1 or more.
VERDICTS: dict[str, tuple[Rgb, Rgb]] = {
    "supported": ((23, 102, 58), (226, 243, 232)),
    "weak": ((92, 64, 0), (255, 240, 200)),
    "unsupported": ((161, 29, 29), (251, 230, 228)),
}


class Badge(NamedTuple):
    """A verdict to show: its name in VERDICTS, its title in a pill, and its grounds, a line or more each."""

    name: str
    title: str
    grounds: Sequence[str]

    def height(self, width: int) -> int:
        """Return the height in pixels."""
        _, down, lines = self._grounds(width)
        return max(down + len(lines) * SMALL.leading, PILL_HEIGHT)

    def draw(self, sheet: UInt8Array, left: int, top: int, width: int) -> None:
        """Draw the pill and the grounds in a box at (left, top)."""
        ink, ground = VERDICTS[self.name]
        pill = np.full((PILL_HEIGHT, self._pill, 3), ground, np.uint8)
        sheet[top : top + PILL_HEIGHT, left : left + self._pill] = round_corners(pill)
        write(sheet, self.title, left + PILL_PAD, top + 3, PILL._replace(color=ink))
        across, down, lines = self._grounds(width)
        for i, line in enumerate(lines):
            write(sheet, line, left + across, top + down + i * SMALL.leading, VALUE)

    @property
    def _pill(self) -> int:
        return text_width(self.title, PILL) + 2 * PILL_PAD

    def _grounds(self, width: int) -> tuple[int, int, list[str]]:
        """Return the place of the grounds, behind the pill or below it, and their lines."""
        across, down = self._pill + GAP, 3
        if width - across < LEAST_BESIDE:
            across, down = 0, PILL_HEIGHT + GAP // 2
        return across, down, [line for ground in self.grounds for line in wrap(ground, VALUE, width - across, 3)]


class Headline(NamedTuple):
    """The name of the class with its probability, and the verdict below."""

    title: str
    chance: str
    badge: Badge | None

    def height(self, width: int) -> int:
        """Return the height in pixels."""
        verdict = GAP + self.badge.height(width) if self.badge else 0
        return max(len(self._lines(width)), 1) * HEADLINE.leading + verdict

    def draw(self, sheet: UInt8Array, left: int, top: int, width: int) -> None:
        """Draw the class name, its probability behind the last line, and the verdict, in a box at (left, top)."""
        end = left
        for i, line in enumerate(self._lines(width)):
            top += HEADLINE.leading if i else 0
            write(sheet, line, left, top, HEADLINE)
            end = left + text_width(line, HEADLINE) + 14
        write(sheet, self.chance, end, top, PROBABILITY)
        if self.badge is not None:
            self.badge.draw(sheet, left, top + HEADLINE.leading + GAP, width)

    def _lines(self, width: int) -> list[str]:
        return wrap(self.title, HEADLINE, width - text_width(self.chance, PROBABILITY) - 20, 2)


class Facts(NamedTuple):
    """The origin of a result, a labelled row for each fact, and below them remarks."""

    rows: Mapping[str, str]
    remarks: Sequence[str]

    def height(self, width: int) -> int:
        """Return the height in pixels."""
        rows = sum(len(lines) for _, lines in self._rows(width))
        return (rows + len(self._remarks(width))) * SMALL.leading + self._space

    def draw(self, sheet: UInt8Array, left: int, top: int, width: int) -> None:
        """Draw the rows in two columns, and the remarks, in a box at (left, top)."""
        for label, lines in self._rows(width):
            write(sheet, label, left, top - 2, SMALL)
            for line in lines:
                write(sheet, line, left + self._column, top - 2, VALUE)
                top += SMALL.leading
        for i, line in enumerate(self._remarks(width)):
            write(sheet, line, left, top - 2 + self._space + i * SMALL.leading, VALUE)

    @property
    def _column(self) -> int:
        """Return the width of the labels, with the gap behind them."""
        return max((text_width(label, SMALL) for label in self.rows), default=0) + GAP

    def _rows(self, width: int) -> Iterator[tuple[str, list[str]]]:
        """Yield each label with its value in at most three lines; the middle of a longer value is left out."""
        room = width - self._column
        for label, value in self.rows.items():
            # Lines are broken at spaces, so three lines hold less than three times the room.
            yield label, wrap(cut_middle(value, VALUE, 5 * room // 2), VALUE, room, 3)

    @property
    def _space(self) -> int:
        return GAP // 2 if self.rows and self.remarks else 0

    def _remarks(self, width: int) -> list[str]:
        return [line for remark in self.remarks for line in wrap(remark, VALUE, width, 3)]


def cut_middle(text: str, style: TextStyle, width: int) -> str:
    """Return a text that fits into `width` pixels: cut in its middle, as names of files say most at their ends.

    Characters that cannot be printed become spaces.
    """
    line = "".join(wrap(text, style, ANY_WIDTH, 1))
    low, high = 0, len(line)
    if text_width(line, style) <= width:
        return line
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if text_width(_without_middle(line, kept), style) <= width else (low, kept - 1)
    return _without_middle(line, low)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
