"""Ways to draw a line of text: by OpenCV 5, whose font knows most scripts; with OpenCV 4 by Pillow, else in ASCII."""

import unicodedata
import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np

from fusioncam.kernels.arrays import UInt8Array

BOLD = 600  # the weight from which on letters are bold, in a font without weights between
# Regular and bold, as files of fonts are called on Linux, macOS and Windows. Pillow's own font knows little but ASCII.
FONTS = (
    ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"),
    ("NotoSans-Regular.ttf", "NotoSans-Bold.ttf"),
    ("LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf"),
    ("Arial.ttf", "Arial Bold.ttf"),
    ("arial.ttf", "arialbd.ttf"),
)
# What our own texts use beside ASCII: ellipsis, minus, dashes, multiplication sign.
PLAIN = {0x2026: "...", 0x2212: "-", 0x2013: "-", 0x2014: "-", 0xD7: "x"}


class TextStyle(NamedTuple):
    """A style of text: size in pixels, weight 100..1000, RGB colour."""

    size: int
    weight: int
    color: tuple[int, int, int]

    @property
    def leading(self) -> int:
        """Return the distance between two lines, in pixels."""
        return round(1.35 * self.size)


class Pen(Protocol):
    """A way to draw text. Each thread needs a pen of its own: two that share a font draw each other's glyphs."""

    def width(self, text: str, style: TextStyle) -> int:
        """Return the width of a line in pixels."""

    def write(self, sheet: UInt8Array, text: str, left: int, baseline: int, style: TextStyle) -> None:
        """Draw one line of text."""


class FontFacePen:
    """The font in OpenCV 5, which takes 2 ms to open."""

    def __init__(self) -> None:
        self._face = cv2.FontFace("sans")

    def width(self, text: str, style: TextStyle) -> int:
        """Return the width of a line in pixels."""
        x, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), self._face, style.size, style.weight)
        return x + width

    def write(self, sheet: UInt8Array, text: str, left: int, baseline: int, style: TextStyle) -> None:
        """Draw one line of text."""
        cv2.putText(sheet, text, (left, baseline), style.color, self._face, style.size, style.weight)


class PillowPen:
    """A font of the system, drawn by Pillow.

    Raises:
        ImportError: Pillow is not installed.
        OSError: The system has none of `FONTS`.
    """

    def __init__(self) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._image, self._draw = Image.fromarray, ImageDraw.Draw
        self._font = lru_cache(partial(_first_font, ImageFont.truetype))
        self._box = self._glyph("\U0010ffff")  # drawn for what the font does not know

    def width(self, text: str, style: TextStyle) -> int:
        """Return the width of a line in pixels."""
        return int(self._font(style.size, style.weight >= BOLD).getlength(text) + 0.5)

    def write(self, sheet: UInt8Array, text: str, left: int, baseline: int, style: TextStyle) -> None:
        """Draw one line; warn of characters that the font lacks."""
        if any(not c.isascii() and self._glyph(c) == self._box for c in text):
            _warn()
        image, font = self._image(sheet), self._font(style.size, style.weight >= BOLD)
        self._draw(image).text((left, baseline), text, style.color, font, anchor="ls")
        sheet[:] = np.asarray(image)

    def _glyph(self, character: str) -> bytes:
        return bytes(self._font(16, False).getmask(character))


def _first_font(load: Callable[[str, int], Any], size: int, bold: bool) -> Any:
    """Return the first of `FONTS` that the system has, in a size."""
    for names in FONTS[:-1]:
        try:
            return load(names[bold], size)
        except OSError:
            continue
    return load(FONTS[-1][bold], size)


class HersheyPen:
    """The strokes of OpenCV 4, which knows ASCII alone: accents are left out, other characters are question marks."""

    def width(self, text: str, style: TextStyle) -> int:
        """Return the width of a line in pixels."""
        (width, _), _ = cv2.getTextSize(_in_ascii(text), cv2.FONT_HERSHEY_DUPLEX, style.size / 34, 1)
        return width

    def write(self, sheet: UInt8Array, text: str, left: int, baseline: int, style: TextStyle) -> None:
        """Draw one line; warn of characters that it does not show."""
        if not text.translate(PLAIN).isascii():
            _warn()
        font, scale, thick = cv2.FONT_HERSHEY_DUPLEX, style.size / 34, 1 + (style.weight >= BOLD)
        cv2.putText(sheet, _in_ascii(text), (left, baseline), font, scale, style.color, thick, cv2.LINE_AA)


def _in_ascii(text: str) -> str:
    apart = unicodedata.normalize("NFKD", text.translate(PLAIN))
    return "".join(c if c.isascii() else "?" for c in apart if not unicodedata.combining(c))


def _warn() -> None:
    warnings.warn(
        f"a label is not drawn as it is written: OpenCV {cv2.__version__} has no font for all of it; "
        "install OpenCV 5.0 or later, or Pillow and a font of the system",
        RuntimeWarning,
        stacklevel=4,
    )


def open_pen() -> Pen:
    """Return the best pen that there is here."""
    if hasattr(cv2, "FontFace"):
        return FontFacePen()
    try:
        return PillowPen()
    except (ImportError, OSError):
        return HersheyPen()
