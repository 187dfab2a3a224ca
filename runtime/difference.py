"""Why one class and not another: the difference of two explanations of the same picture."""

from dataclasses import dataclass, field
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.explanation import Explanation, Passes


@dataclass(frozen=True)
class Difference:
    """What speaks for a class rather than for another.

    Attributes:
        maps: One (H, W) float32 array in [-1, 1] per method: that of the first class less that of the second.
        first: The explanation of the one class.
        second: That of the other.
    """

    maps: dict[str, Float32Array] = field(repr=False)
    first: Explanation
    second: Explanation

    @property
    def names(self) -> tuple[str, str]:
        """What the classes are called, in short."""
        short = [e.title.split(",")[0].strip() for e in (self.first, self.second)]
        if short[0] == short[1]:
            return f"{short[0]} ({self.first.class_index})", f"{short[1]} ({self.second.class_index})"
        return short[0], short[1]

    @property
    def title(self) -> str:
        """The question that is answered."""
        return "why {} and not {}".format(*self.names)

    @property
    def class_index(self) -> int:
        """The first class."""
        return self.first.class_index

    @property
    def flags(self) -> tuple[str, ...]:
        """Special cases met in either explanation."""
        return tuple(dict.fromkeys((*self.first.flags, *self.second.flags)))

    @property
    def passes(self) -> Passes:
        """As of an explanation: both share them."""
        return self.first.passes

    @property
    def timing(self) -> dict[str, float]:
        """As of an explanation: both share it."""
        return self.first.timing

    def summary(self) -> dict[str, Any]:
        """Everything but the maps, ready for JSON: as of the first class, and who the other is."""
        second = self.second.summary()
        return {
            **self.first.summary(),
            "versus": {key: second[key] for key in ("class_index", "label", "probability")},
            "flags": {**self.first.summary()["flags"], **second["flags"]},
        }


def difference(first: Explanation, second: Explanation) -> Difference:
    """Where a class has more evidence than another, and where less: M_first - M_second, per method.

    Args:
        first: Explanation of one class.
        second: Explanation of another class of the same picture, by the same methods.

    Raises:
        UsageError: Both are of the same class, or their methods or sizes differ.
    """
    if first.class_index == second.class_index:
        raise UsageError(f"{first.title!r} cannot be compared with itself; name another class")
    if list(first.maps) != list(second.maps):
        raise UsageError(f"the maps are by {', '.join(first.maps)} and by {', '.join(second.maps)}; use the same")
    maps = {}
    for method, saliency in first.maps.items():
        other = second.maps[method]
        if saliency.shape != other.shape:
            raise UsageError(f"maps of {saliency.shape} and {other.shape} pixels are not of the same picture")
        maps[method] = saliency - other
    return Difference(maps, first, second)
