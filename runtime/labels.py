"""Names of a model's classes, as people and annotations use them."""

import difflib
import re
from collections.abc import Sequence

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import quote

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


def class_number(manifest: Manifest, text: str) -> int:
    """Return the index of a class by its number, its whole label, or one of the names between commas in its label.

    Raises:
        UsageError: There is no such class, or several classes share the name.
    """
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if manifest.labels is None:
        raise UsageError(f"the bundle has no labels to find {quote(text)} in; give the class's number")
    name, classes = text.strip().casefold(), classes_by_name(manifest.labels)
    indices = classes.get(name, ())
    if len(indices) > 1:
        raise UsageError(f"several classes are called {quote(text)}: {', '.join(map(str, indices))}; give a number")
    if not indices:
        close = [n for n in classes if name in n.split()][:3] or difflib.get_close_matches(name, classes, n=1)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UsageError(f"no class is called {quote(text)}{hint}")
    return indices[0]
