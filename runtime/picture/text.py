"""Lines of text on a sheet: measured, broken, shortened and drawn."""

import threading

from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.picture.pens import TextStyle, open_pen

__all__ = ["TextStyle", "text_width", "wrap", "write"]


class _Pens(threading.local):
    """A pen for each thread."""

    def __init__(self) -> None:
        self.pen = open_pen()


_OWN = _Pens()


def text_width(text: str, style: TextStyle) -> int:
    """Return the width of a line in pixels."""
    return _OWN.pen.width(text, style)


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
    _OWN.pen.write(sheet, text, left, top + style.size, style)
