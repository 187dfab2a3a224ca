"""The names of the classes: the user's, or those of the source."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusioncam.errors import UsageError, first_line
from fusioncam.export.reading.configurations import ODDITIES, folders_of, read_json, read_literal


def read_labels(
    metadata: Mapping[str, str],
    folder: Path,
    classes: int,
    user_labels: str | os.PathLike[str] | Sequence[str] | None,
    one: tuple[str, str] | None = None,
) -> tuple[str, ...] | None:
    """Return one name per class: the user's, in a list or a text file, else the source's, else none.

    Args:
        metadata: The model's metadata_props.
        folder: Where the model lies.
        classes: How many names there must be.
        user_labels: A list, or a file with one name a line, or None.
        one: For a model of one output, which has two classes: their names, with `{}` for the only name there is.

    Raises:
        UsageError: The file cannot be read, or its number of names is not that of the classes.
    """
    if user_labels is not None:
        names = _of_both(_given_names(user_labels), one)
        if len(names) != classes:
            hint = "; the model's first class may be the background" if len(names) == classes - 1 else ""
            counted = f"{len(names)} labels were given"
            if isinstance(user_labels, str | os.PathLike):
                counted = f"{user_labels} holds {len(names)} labels, one a line"
            raise UsageError(f"{counted}, but the model has {classes} classes{hint}")
        return names
    configs = [read_json(place / "config.json") for place in folders_of(folder)]
    configured = (config.get("id2label") or config.get("label_names") for config in configs)  # transformers, timm
    for listing in (read_literal(metadata.get("names", "")), *configured):
        listed = list(_by_number(listing).values()) if isinstance(listing, dict) else listing
        names = _of_both(tuple(str(n) for n in listed), one) if isinstance(listed, list) else ()
        if len(names) == classes and all(map(_writable, names)):
            return names
    return None


def _of_both(names: tuple[str, ...], one: tuple[str, str] | None) -> tuple[str, ...]:
    """Return the names of the two classes of one output, made of its own name."""
    return names if one is None or len(names) != 1 else (one[0].format(names[0]), one[1].format(names[0]))


def _given_names(labels: str | os.PathLike[str] | Sequence[str]) -> tuple[str, ...]:
    if not isinstance(labels, str | os.PathLike):
        names = tuple(labels) if isinstance(labels, Sequence) else ()
        if not names or not all(isinstance(n, str) and _writable(n) for n in names):
            raise UsageError("labels are a list of names, or a text file with one a line")
        return names
    try:
        lines = Path(labels).read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise UsageError(
            f"labels file {labels} cannot be read ({why}); give a text file with one class name a line"
        ) from error
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)


def _writable(name: str) -> bool:
    """Return whether UTF-8 can hold a name: half a surrogate pair is no character."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _by_number(names: Mapping[Any, Any]) -> dict[int, Any]:
    try:
        return dict(sorted((int(k), v) for k, v in names.items()))
    except ODDITIES:
        return {}
