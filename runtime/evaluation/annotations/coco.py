"""The reader of COCO instances (cocodataset.org, "Data format"): boxes, polygons and run-length codes."""

from typing import Any, TypeAlias

from fusioncam.runtime.evaluation.annotations.model import AnnotatedObject, Entry, Problem
from fusioncam.runtime.evaluation.annotations.names import Names
from fusioncam.runtime.evaluation.annotations.outlines import Box, Outline, Polygons, RunLengths, numbers
from fusioncam.runtime.evaluation.annotations.parts import image_size, photo_name, records, shown

Key: TypeAlias = int | str | None


def entries(content: dict[str, Any], names: Names, problems: list[Problem]) -> list[Entry]:
    """Return one entry per image; a damaged object becomes a problem, and the others are kept.

    Args:
        content: The whole file.
        names: Looks the categories up.
        problems: Grows by a problem for each part that cannot be used.
    """
    categories = {_key(c.get("id")): c.get("name", c.get("id")) for c in records(content.get("categories"))}
    classes = {identity: names.of(name) for identity, name in categories.items()}
    objects: dict[Key, list[dict[str, Any]]] = {}
    for item in records(content.get("annotations")):
        objects.setdefault(_key(item.get("image_id")), []).append(item)
    read = []
    for image in records(content["images"]):
        name = photo_name(image.get("file_name"))
        if name is None:
            problems.append(Problem(None, f"image {shown(image.get('id'))} has no file_name"))
            continue
        objects_of_image = []
        for item in objects.pop(_key(image.get("id")), []):
            of_object = classes.get(_key(item.get("category_id")))
            if of_object is None:
                of_object = frozenset()
                problems.append(Problem(name, f"object {shown(item.get('id'))} is of a category that is not listed"))
            try:
                objects_of_image.append(AnnotatedObject(_outline(item), of_object, bool(item.get("iscrowd"))))
            except ValueError as error:
                problems.append(Problem(name, f"object {shown(item.get('id'))} was left out: {error}"))
        accepted = frozenset[int]().union(*(item.classes or () for item in objects_of_image))
        read.append(
            Entry((name,), image_size(image.get("height"), image.get("width")), accepted, tuple(objects_of_image))
        )
    if astray := sum(map(len, objects.values())):
        problems.append(Problem(None, f"{astray} objects are of images that are not listed"))
    return read


def _key(value: Any) -> Key:
    """Return an id to look records up by; all damaged ids become None."""
    return value if isinstance(value, int | str) and not isinstance(value, bool) else None


def _outline(item: dict[str, Any]) -> Outline:
    """Return the finest outline of an object: its mask or polygons, else its box."""
    segmentation = item.get("segmentation")
    if isinstance(segmentation, dict):
        return RunLengths.of(segmentation)
    if isinstance(segmentation, list) and segmentation:
        # Some write one polygon without the list around it.
        return Polygons.of(segmentation if isinstance(segmentation[0], list) else [segmentation])
    if item.get("bbox") is None:
        raise ValueError("it has neither a box nor a mask")
    x, y, width, height = numbers(item["bbox"], 4)
    return Box(x, y, x + width, y + height)
