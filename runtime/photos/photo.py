"""A photo with a name, so that a result can say what it explains."""

from dataclasses import dataclass

from fusioncam.kernels.arrays import UInt8Array


@dataclass(frozen=True, eq=False)
class Photo:
    """A photo, for an array that shall have a name in its result.

    Attributes:
        pixels: (H0, W0, 3) uint8 RGB, or the picture in another form that `Explainer.explain` takes.
        name: Path or name of the picture; None where it has none.
    """

    pixels: UInt8Array
    name: str | None = None
