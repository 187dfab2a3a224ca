"""The reader of JSON lists: {file, size [W, H], accept_classes, boxes [[x0, y0, x1, y1]], boxes_class, mask}."""

from pathlib import Path
from typing import Any

from fusioncam.runtime.evaluation.annotations.model import AnnotatedObject, Entry, Problem
from fusioncam.runtime.evaluation.annotations.names import Names
from fusioncam.runtime.evaluation.annotations.outlines import Box, MaskFile, numbers
from fusioncam.runtime.evaluation.annotations.parts import image_size, photo_name, records, shown


def entries(content: list[Any], folder: Path, names: Names, problems: list[Problem]) -> list[Entry]:
    """Return one entry per item that names a file.

    Args:
        content: The whole file.
        folder: The folder of the file, to which paths of masks are relative.
        names: Looks the classes up; `accept_classes` holds names or numbers.
        problems: Grows by a problem for each part that cannot be used.
    """
    names.consequence = "it is left out, and boxes of it count for any class"
    read = []
    for item in records(content):
        name = photo_name(item.get("file"))
        if name is None:
            problems.append(Problem(None, "an entry names no file"))
            continue
        sides = item.get("size")
        size = image_size(sides[1], sides[0]) if isinstance(sides, list) and len(sides) == 2 else None
        accepted = frozenset[int]().union(*(names.of(c) for c in _list(item.get("accept_classes"))))
        read.append(Entry((name,), size, accepted, tuple(_objects(item, name, folder, names, problems))))
    return read


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _objects(
    item: dict[str, Any], name: str, folder: Path, names: Names, problems: list[Problem]
) -> list[AnnotatedObject]:
    boxes, called = _list(item.get("boxes")), _list(item.get("boxes_class"))
    objects = []
    for n, box in enumerate(boxes):
        # A box whose class the labels do not know counts for every class: the photo's accepted ones say what is in it.
        classes = (names.of(called[n]) or None) if n < len(called) else None
        try:
            objects.append(AnnotatedObject(Box(*numbers(box, 4)), classes))
        except ValueError as error:
            problems.append(Problem(name, f"box {n + 1} was left out: {error}"))
    if isinstance(item.get("mask"), str):
        try:
            objects.append(AnnotatedObject(MaskFile.of(folder / item["mask"]), None))
        except ValueError as error:
            problems.append(Problem(name, f"its mask {shown(item['mask'])} was left out: {error}"))
    return objects
