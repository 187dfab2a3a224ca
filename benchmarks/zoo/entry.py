"""A network of a library, by its name and by what makes it small."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FIELDS = ("head", "output", "fitted", "asked")  # of an entry, beside the options of its model


@dataclass(frozen=True)
class Entry:
    """A network of a library.

    Attributes:
        library: `torchvision`, `timm` or `transformers`.
        make: Name of the model; of transformers the stem of its class.
        size: (H, W) of the input in pixels; (T, H, W) of a video.
        options: What makes it small.
        head: Of transformers the rest of its class.
        output: The field of its answer that is exported, where there are several.
        fitted: Whether the options and the size are those of a small network; else the smallest that runs is sought.
        asked: Options of `fusioncam export`.
    """

    library: str
    make: str
    size: tuple[int, ...] = (64, 64)
    options: Mapping[str, Any] = field(default_factory=dict)
    head: str = "ForImageClassification"
    output: str | None = None
    fitted: bool = True
    asked: Mapping[str, Any] = field(default_factory=dict)


def entries(library: str, size: int | tuple[int, ...] = 64, **models: Mapping[str, Any]) -> dict[str, Entry]:
    """Return the entries of a library by `library/name`.

    Args:
        library: The library.
        size: Side of the input in pixels, where a model does not give its own.
        models: Options of each model, and fields of its entry among them.
    """
    found = {}
    for name, options in models.items():
        given = dict(options)
        side = given.pop("size", size)
        known = {key: given.pop(key) for key in FIELDS if key in given}
        sides = side if isinstance(side, tuple) else (side, side)
        found[f"{library}/{name}"] = Entry(library, given.pop("make", name), sides, given, **known)
    return found


def words(names: str) -> list[str]:
    """Return names that blanks divide."""
    return names.split()
