"""Pieces of HTML: everything that comes from file names, labels or settings goes through `text`."""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from fusioncam.runtime.picture import method_title

SERIES = 10  # colours in report.css


def text(value: object) -> str:
    """Anything as harmless HTML; what is no character, as in file names that are not UTF-8, by its code."""
    plain = str(value).encode("utf-8", "backslashreplace").decode()
    return html.escape("".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in plain))


def number(value: float | None, signed: bool = False) -> str:
    """Three digits behind the point, with a true minus; a dash where there is no value."""
    if value is None:
        return '<span class="none" title="no value">&ndash;</span>'
    shown = f"{value:+.3f}" if signed else f"{value:.3f}"
    return (shown.lstrip("+-") if float(shown) == 0 else shown).replace("-", "&minus;")


def interval(facts: Mapping[str, Any], signed: bool = False) -> str:
    """The ends of an interval in brackets; nothing where there is none, as for a single photo."""
    if facts.get("low") is None or facts.get("high") is None:
        return ""
    return f"[{number(facts['low'], signed)}, {number(facts['high'], signed)}]"


def linked(source: str) -> str:
    """A source with its arXiv numbers as links."""
    return re.sub(r"arXiv (\d{4}\.\d{4,5})", r'<a href="https://arxiv.org/abs/\1">arXiv \1</a>', text(source))


def section(name: str, title: str, *body: str) -> str:
    """A section with its heading, or nothing where it has no body."""
    inner = "\n".join(part for part in body if part)
    return (
        f'<section aria-labelledby="{name}">\n<h2 id="{name}">{text(title)}</h2>\n{inner}\n</section>' if inner else ""
    )


def scrolling(table: str, title: str) -> str:
    """A table that scrolls sideways by itself where the screen is narrow, by keyboard, too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{text(title)}">{table}</div>'


def photos(count: int) -> str:
    """So many photos."""
    return f"{count} photo" if count == 1 else f"{count} photos"


def swatch(n: int) -> str:
    """The line that stands for the n-th method in the curves."""
    return (
        f'<svg class="swatch s{n % SERIES}" viewBox="0 0 26 10" aria-hidden="true">'
        f'<path class="line" d="M1 5H25"{dashes(n)}/></svg>'
    )


def dashes(n: int) -> str:
    """Colours alone do not tell ten lines apart: every second one is dashed, from the eleventh on dotted."""
    pattern = ("", "7 4", "2 3", "9 3 2 3")[(n % 2) + 2 * (n // SERIES % 2)]
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def method_name(method: str) -> str:
    """A method as it is called in print, in one line where there is room: the hyphens do not break."""
    return text(method_title(method)).replace("-", "&#8209;")


def grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Names by what is said of them, the commonest first."""
    groups: dict[str, list[str]] = {}
    for said, name in pairs:
        groups.setdefault(said, []).append(name)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))
