"""Figures of one map, as a probe reads them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fusioncam.kernels.arrays import Array


@dataclass(frozen=True)
class Measured:
    """The figures of one map.

    Attributes:
        values: By the names of metrics, and the confidences that they are made of; NaN where there is none.
        curves: p_c after each step, by metric.
        flags: Names of special cases that the map met.
    """

    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Array] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def merged(parts: Iterable[Measured]) -> Measured:
    """Return the figures of several metrics about one map as one value."""
    values: dict[str, float] = {}
    curves: dict[str, Array] = {}
    flags: dict[str, None] = {}
    for part in parts:
        values |= part.values
        curves |= part.curves
        flags |= dict.fromkeys(part.flags)
    return Measured(values, curves, tuple(flags))
