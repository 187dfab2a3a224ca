"""Hints of a model's metadata about its boxes: Ultralytics writes the task and the names of classes."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Hints:
    """Hints of a model about its own boxes.

    Attributes:
        kind: Ultralytics' name of the task, such as `detect` or `pose`; None where nothing says it.
        classes: The number of classes, or None.
    """

    kind: str | None = None
    classes: int | None = None


def hints_of(metadata: Mapping[str, str]) -> Hints:
    """Return the hints of a model's metadata."""
    try:
        names = ast.literal_eval(metadata.get("names", ""))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        names = None
    classes = len(names) if isinstance(names, dict | list) and names else None
    return Hints(metadata.get("task"), classes)
