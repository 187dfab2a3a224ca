"""Lines of text on a sheet: measured, broken, shortened and drawn with OpenCV's own font."""

import threading
from typing import NamedTuple

import cv2

from fusioncam.kernels.arrays import UInt8Array


class TextStyle(NamedTuple):
    """A style of text: size in pixels, weight 100..1000, RGB colour."""

    size: int
    weight: int
    color: tuple[int, int, int]

    @property
    def leading(self) -> int:
        """Return the distance between two lines, in pixels."""
        return round(1.35 * self.size)


class _Font(threading.local):
    """A font for each thread: two threads that share a font draw each other's glyphs. A new font takes 2 ms."""

    def __init__(self) -> None:
        self.face = cv2.FontFace("sans")


_FONT = _Font()


def text_width(text: str, style: TextStyle) -> int:
    """Return the width of a line in pixels."""
    x, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _FONT.face, style.size, style.weight)
    return x + width


def _cut(text: str, style: TextStyle, width: int) -> int:
    """Return the number of characters, from the start of `text`, that fit into `width` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text_width(text[:middle], style) <= width else (low, middle - 1)
    return low


def _shorten(text: str, style: TextStyle, width: int) -> str:
    if text_width(text, style) <= width:
        return text
    return text[: _cut(text, style, width - text_width("…", style))].rstrip() + "…"


def wrap(text: str, style: TextStyle, width: int, most: int) -> list[str]:
    """Break text at spaces, or within a word wider than a line, into at most `most` lines; the last may be cut."""
    rest = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    lines: list[str] = []
    while rest and len(lines) < most - 1:
        fits = _cut(rest, style, width)
        if fits < len(rest):
            space = rest.rfind(" ", 0, fits + 1)
            fits = space if space > 0 else max(fits, 1)
        lines.append(rest[:fits])
        rest = rest[fits:].lstrip()
    return [*lines, _shorten(rest, style, width)] if rest else lines


def write(sheet: UInt8Array, text: str, left: int, top: int, style: TextStyle) -> None:
    """Draw one line whose box begins at (left, top)."""
    cv2.putText(sheet, text, (left, top + style.size), style.color, _FONT.face, style.size, style.weight)
