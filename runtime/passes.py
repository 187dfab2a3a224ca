"""The masked passes of a picture, and how far its maps may be from those of more passes."""

from collections.abc import Sequence
from typing import NamedTuple

TOLERANCE = 1e-3  # error of a map from which on a budget counts as too small
STANDARD_ERROR = 0.05  # of RISE's map, as a share of its range, at which RISE stops


class Passes(NamedTuple):
    """The masked forward passes of a picture, and the error of the maps that follow from them.

    Attributes:
        run: Masked passes run.
        channels: Number of all channels.
        missing: Share of Score-CAM's softmax weight that rests on expected scores, 0..1; 0 for an exact map. This share
            measures the amount of guessing, not the error of the map.
        error: Error 1 - r^2 of Score-CAM's map, r its correlation with the exact one, that one map in ten exceeds; 0
            for an exact map.
        tolerance: The error from which on the budget counts as too small, see `cut_short` in `FLAGS`.
        surprise: Root mean square of measured less predicted scores, relative to the deviation that was predicted: 1 is
            as expected; 0 where none was predicted.
        standard_error: Standard error of RISE's map, the root of its mean square over pixels, as a share of the map's
            range; 0 where RISE was not asked for.
    """

    run: int
    channels: int
    missing: float = 0.0
    error: float = 0.0
    tolerance: float = TOLERANCE
    surprise: float = 0.0
    standard_error: float = 0.0

    @property
    def settled(self) -> bool:
        """Return True where the estimated errors are within their tolerances."""
        return self.error <= self.tolerance and self.standard_error <= STANDARD_ERROR

    @property
    def nothing_saved(self) -> bool:
        """Return True where scores were guessed at first, and all were measured in the end."""
        return self.surprise > 0 and self.missing == 0

    @classmethod
    def of_all(cls, views: Sequence["Passes"]) -> "Passes":
        """Return the passes of several views of a picture."""
        run, channels, *estimates = zip(*views, strict=True)
        return cls(sum(run), sum(channels), *map(max, estimates))
