"""The model's classes for what annotations call them."""

from collections.abc import Sequence

from fusioncam.runtime.evaluation.annotations.model import Problem
from fusioncam.runtime.evaluation.annotations.parts import shown
from fusioncam.runtime.labels import classes_by_name


class Names:
    """Looks classes up by name or number, and keeps a list of those that the model does not have.

    `then` says what becomes of their objects.

    Args:
        labels: One per class, or none.
        classes: How many the model has.
        offset: Added to a number: 1 where class 0 of the model is a background that the numbers do not count.
    """

    then = "its objects are not used"

    def __init__(self, labels: Sequence[str] | None, classes: int, offset: int = 0) -> None:
        self._by_name, self._classes, self._offset = classes_by_name(labels), classes, offset
        self._labelled = labels is not None
        self._unknown: set[str] = set()

    def of(self, given: object) -> frozenset[int]:
        """The classes called so; several share some names, and there may be none.

        Args:
            given: A name, or a number, as such or in digits.
        """
        if isinstance(given, str) and (named := self._by_name.get(given.strip().casefold())):
            return frozenset(named)
        digits = isinstance(given, str) and given.strip().isdecimal() and len(given) <= 18
        if digits or (isinstance(given, int) and not isinstance(given, bool)):
            index = int(given) + self._offset  # type: ignore[call-overload]
            if 0 <= index < self._classes:
                return frozenset({index})
        self._unknown.add(given if isinstance(given, str) else shown(given))
        return frozenset()

    def problems(self) -> list[Problem]:
        """One for each class that was asked for in vain."""
        why = "the model has no such class" if self._labelled else "the bundle has no labels to look it up in"
        return [Problem(None, f"class {shown(name)}: {why}; {self.then}") for name in sorted(self._unknown)]
