"""The names of a model's classes, as people and annotations use them."""

import re
from collections.abc import Sequence

_WORDNET = re.compile(r"(n\d{8})\s+(.+)", re.DOTALL)  # how ImageNet's own lists begin their lines


def names_of(label: str) -> set[str]:
    """What a class may be called: its whole label, the names between the commas, a WordNet id before them; folded."""
    label = label.casefold().strip()
    names = {label, *(part.strip() for part in label.split(","))}
    wordnet = _WORDNET.fullmatch(label)
    return names if wordnet is None else {*names, wordnet[1], *names_of(wordnet[2])}


def classes_by_name(labels: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Every name of every class, folded, and the classes that go by it: `crane` is a bird and a machine."""
    found: dict[str, tuple[int, ...]] = {}
    for index, label in enumerate(labels or ()):
        for name in names_of(label):
            found[name] = (*found.get(name, ()), index)
    return found
