"""What all kinds of annotations have: lists of records, names of photos, sizes."""

import math
import reprlib
from pathlib import PurePosixPath
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 80


def records(value: Any) -> list[dict[str, Any]]:
    """The dictionaries in a list of JSON; anything else is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def photo_name(value: Any) -> str | None:
    """A photo's name with `/` between its parts and no `./` before them, or None where that names no file."""
    name = value.strip().replace("\\", "/") if isinstance(value, str) else ""
    while name.startswith("./"):
        name = name[2:]
    return name if PurePosixPath(name).name else None


def shown(value: Any) -> str:
    """Something found in a file, short enough for a line of text, whatever it is and however deep."""
    return _SHORT.repr(value)


def image_size(height: Any, width: Any) -> tuple[int, int] | None:
    """(H, W), or None where it is not said: some programs write 0 for that."""
    try:
        found = float(height), float(width)
    except (OverflowError, TypeError, ValueError):
        return None
    whole = all(math.isfinite(n) and 1 <= n < 1 << 20 for n in found)
    return (int(found[0]), int(found[1])) if whole else None
