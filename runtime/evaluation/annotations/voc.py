"""Pascal VOC (host.robots.ox.ac.uk/pascal/VOC): one XML file per photo, boxes in pixels counted from 1."""

from xml.etree import ElementTree as ET

from fusioncam.errors import first_line
from fusioncam.runtime.evaluation.annotations.model import AnnotatedObject, Entry, Problem
from fusioncam.runtime.evaluation.annotations.names import Names
from fusioncam.runtime.evaluation.annotations.outlines import Box, numbers
from fusioncam.runtime.evaluation.annotations.parts import image_size, photo_name


class _NoDoctype(ET.TreeBuilder):
    """A builder that refuses document types: a few lines of their entities expand to gigabytes."""

    def doctype(self, *_: str | None) -> None:
        raise ValueError("it declares a document type (DOCTYPE), which no annotation needs")


def entries(data: bytes, stem: str, names: Names, problems: list[Problem]) -> list[Entry]:
    """Return the photos of one file: one, or several `annotation` elements under a common root.

    Args:
        data: The file.
        stem: The file's name without suffix: the photo's name where `filename` is wrong or missing.
        names: Looks the classes up.
        problems: Grows by a problem for each part that cannot be used.

    Raises:
        ValueError: The file is not XML, declares a DOCTYPE, or holds no annotation.
    """
    try:
        root = ET.fromstring(data, ET.XMLParser(target=_NoDoctype()))
    except (ET.ParseError, LookupError) as error:
        raise ValueError(f"its XML is damaged: {first_line(error)}") from error
    elements = [root] if root.tag == "annotation" else root.findall("annotation")
    if not elements:
        raise ValueError(f"it holds no <annotation> but <{root.tag}>")
    read = (_entry(element, stem if element is root else None, names, problems) for element in elements)
    return [entry for entry in read if entry is not None]


def _entry(element: ET.Element, stem: str | None, names: Names, problems: list[Problem]) -> Entry | None:
    called = tuple(filter(None, map(photo_name, (element.findtext("filename"), stem))))
    if not called:
        problems.append(Problem(None, "an <annotation> has no <filename>"))
        return None
    objects = []
    for n, item in enumerate(element.findall("object"), 1):
        try:
            objects.append(AnnotatedObject(_box(item), names.of((item.findtext("name") or "").strip())))
        except ValueError as error:
            problems.append(Problem(called[0], f"object {n} was left out: {error}"))
    size = image_size(element.findtext("size/height"), element.findtext("size/width"))
    return Entry(called, size, frozenset[int]().union(*(t.classes or () for t in objects)), tuple(objects))


def _box(item: ET.Element) -> Box:
    texts = [item.findtext(f"bndbox/{side}") for side in ("xmin", "ymin", "xmax", "ymax")]
    try:
        sides = [float(text or "") for text in texts]
    except ValueError:
        raise ValueError("its box is incomplete") from None
    x0, y0, x1, y1 = numbers(sides, 4)
    # VOC names the first and the last pixel of a box, and counts pixels from 1.
    return Box(x0 - 1, y0 - 1, x1, y1)
