"""Targets as they are named on the command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.runtime.targets.kinds import Like, Region, Target, Value


@dataclass(frozen=True)
class NamedTargets:
    """The targets that a user names; nothing stands for the default targets.

    Attributes:
        classes: Classes by number or name.
        masks: Files of masks: regions of a class.
        points: Points (x, y) of the photo: the connected part of a class there.
        peak: Whether a region counts by its largest value, in place of the mean.
        references: Pictures or `.npy` files of vectors that an embedding is compared with.
        values: Columns of a regression, or heat maps.
        down: Whether what lowers the values is shown.

    Raises:
        UsageError: The attributes contradict each other.
    """

    classes: Sequence[str] = ()
    masks: Sequence[str] = ()
    points: Sequence[tuple[float, float]] = ()
    peak: bool = False
    references: Sequence[str] = ()
    values: Sequence[int] = ()
    down: bool = False

    def __post_init__(self) -> None:
        of_classes = self.classes or self.masks or self.points or self.peak
        kinds = {"a class or region": of_classes, "--like": self.references, "--value": self.values}
        if len(given := [name for name, named in kinds.items() if named]) > 1:
            raise UsageError(f"{' and '.join(given)} are targets of different models: give one kind")
        if self.down and not self.values:
            raise UsageError("--down is about a value: name it, as in --value 0 --down")

    def targets(self) -> tuple[Target, ...]:
        """Return the targets; none where classes alone are named, or nothing.

        Paths are made whole, as another process may explain from another folder.
        """
        values = [Value(value, self.down) for value in self.values]
        likenesses = [Like(os.path.abspath(path)) for path in self.references]  # noqa: PTH100  (links stay)
        places: list[dict[str, Any]] = [{"mask": os.path.abspath(path)} for path in self.masks]  # noqa: PTH100
        places += [{"point": point} for point in self.points]
        if self.peak and not places:
            places = [{}]
        classes: Sequence[str | None] = self.classes or [None]
        regions = [Region(class_, peak=self.peak, **place) for class_, place in product(classes, places)]
        return (*regions, *likenesses, *values)
