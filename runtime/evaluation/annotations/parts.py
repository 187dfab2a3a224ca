"""Parts that all kinds of annotations share: lists of records, names of photos, sizes."""

import math
import reprlib
from pathlib import PurePosixPath
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = 80


def records(value: Any) -> list[dict[str, Any]]:
    """Return the dictionaries in a list of JSON; anything else is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def photo_name(value: Any) -> str | None:
    """Return a photo's name with `/` between its parts and no `./` before them, or None where it names no file."""
    name = value.strip().replace("\\", "/") if isinstance(value, str) else ""
    while name.startswith("./"):
        name = name[2:]
    return name if PurePosixPath(name).name else None


def shown(value: Any) -> str:
    """Return any part of a file as text that is short enough for a line."""
    return _SHORT.repr(value)


def image_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Return (H, W), or None where no size is given: some programs write 0 for that."""
    try:
        size = float(height), float(width)
    except (OverflowError, TypeError, ValueError):
        return None
    whole = all(math.isfinite(n) and 1 <= n < 1 << 20 for n in size)
    return (int(size[0]), int(size[1])) if whole else None
