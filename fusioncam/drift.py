"""Fields of the manifest about the drift of maps by rounded scores."""

from typing import Annotated

from pydantic import Field

from fusioncam.preprocessing import Part, Positive

NEAR = 0.99  # correlation of two maps that count as near


class MethodDrift(Part):
    """The agreement of a method's maps with those by float32 scores: r, Pearson's correlation, over some photos.

    Attributes:
        worst: The least r.
        photo: The photo that has it.
        below: Share of the photos whose r is below 0.99.
        median: The median of r.
    """

    worst: float
    photo: str
    below: float
    median: float


class Drift(Part):
    """The drift of maps by rounded scores, measured on photos.

    Attributes:
        photos: How many.
        seen: Whether the scores were calibrated on these photos; others may drift more.
        accepted: Whether the drift is over a limit, which was accepted.
        methods: By method.
    """

    photos: Positive
    seen: bool
    accepted: bool = False
    methods: Annotated[dict[str, MethodDrift], Field(min_length=1)]

    @property
    def worst(self) -> float:
        """Return the least r of all methods."""
        return min(m.worst for m in self.methods.values())

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a sentence for each method."""
        photos = f"{self.photos} photos{' of the calibration' if self.seen else ''}"
        return tuple(
            f"{name} by rounded scores against {name} by float32 scores: correlation r is {m.worst:.4f} at worst "
            f"({m.photo}), {m.median:.4f} in the median; {m.below:.0%} of {photos} are below {NEAR}"
            for name, m in self.methods.items()
        )
