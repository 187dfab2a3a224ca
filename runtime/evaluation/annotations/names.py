"""The classes of the model by the names that annotations use."""

from collections.abc import Sequence

from fusioncam.runtime.evaluation.annotations.model import Problem
from fusioncam.runtime.evaluation.annotations.parts import shown
from fusioncam.runtime.labels import classes_by_name


class Names:
    """A table of classes by name or number, which remembers the names that the model does not have.

    Args:
        labels: One per class, or none.
        classes: The number of classes of the model.
        offset: Added to a number: 1 where class 0 of the model is a background that the numbers do not count.

    Attributes:
        consequence: What happens to objects of unknown classes, as problems say it.
    """

    consequence = "its objects are not used"

    def __init__(self, labels: Sequence[str] | None, classes: int, offset: int = 0) -> None:
        self._by_name, self._classes, self._offset = classes_by_name(labels), classes, offset
        self._labelled = labels is not None
        self._unknown: set[str] = set()

    def of(self, name: object) -> frozenset[int]:
        """Return the classes of a name: several classes may share it, and there may be none.

        Args:
            name: A name, or a number, as such or in digits.
        """
        if isinstance(name, str) and (named := self._by_name.get(name.strip().casefold())):
            return frozenset(named)
        digits = isinstance(name, str) and name.strip().isdecimal() and len(name) <= 18
        if digits or (isinstance(name, int) and not isinstance(name, bool)):
            index = int(name) + self._offset  # type: ignore[call-overload]
            if 0 <= index < self._classes:
                return frozenset({index})
        self._unknown.add(name if isinstance(name, str) else shown(name))
        return frozenset()

    def problems(self) -> list[Problem]:
        """Return one problem for each name that the model does not have."""
        why = "the model has no such class" if self._labelled else "the bundle has no labels to look it up in"
        return [Problem(None, f"class {shown(name)}: {why}; {self.consequence}") for name in sorted(self._unknown)]
