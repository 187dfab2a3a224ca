"""Names of a model's classes, as people and annotations use them."""

import re
from collections.abc import Sequence

_WORDNET = re.compile(r"(n\d{8})\s+(.+)", re.DOTALL)  # start of a line in ImageNet's own lists


def names_of(label: str) -> set[str]:
    """Return all names of a class in lower case: its label, the names between commas, a WordNet id before them."""
    label = label.casefold().strip()
    names = {label, *(part.strip() for part in label.split(","))}
    wordnet = _WORDNET.fullmatch(label)
    return names if wordnet is None else {*names, wordnet[1], *names_of(wordnet[2])}


def classes_by_name(labels: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Return the classes of every name, in lower case: `crane` is a bird and a machine."""
    classes: dict[str, tuple[int, ...]] = {}
    for index, label in enumerate(labels or ()):
        for name in names_of(label):
            classes[name] = (*classes.get(name, ()), index)
    return classes
