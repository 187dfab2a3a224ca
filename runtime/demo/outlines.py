"""Outlines of the classes of the drawn scenes: closed polygons in the unit disc."""

import numpy as np

from fusioncam.kernels.arrays import FloatingArray

Outlines = tuple[FloatingArray, ...]


def _round(radius: float = 1.0, x: float = 0.0) -> FloatingArray:
    """Return a circle as a (64, 2) polygon."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    return np.stack([x + radius * np.cos(t), radius * np.sin(t)], axis=1)


def _spiked(corners: int, inner: float) -> FloatingArray:
    """Return a polygon (2 * corners, 2) whose vertices lie in turn at radius 1 and at radius `inner`."""
    t = np.arange(2 * corners) * np.pi / corners
    radius = np.where(np.arange(2 * corners) % 2, inner, 1.0)
    return np.stack([radius * np.sin(t), -radius * np.cos(t)], axis=1)


def _cross(arm: float = 0.32) -> FloatingArray:
    """Return a plus sign (12, 2) with arms of half-width `arm`."""
    end = np.sqrt(1 - arm**2)
    quarter = np.array([[arm, arm], [arm, end], [-arm, end]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, k) for k in range(4)])


def _crescent(bite: float = 0.45) -> FloatingArray:
    """Return a disc (128, 2) less an equal disc to its right; the two circles meet at the abscissa `bite`."""
    edge = np.arccos(bite)
    outer = np.linspace(edge, 2 * np.pi - edge, 96)
    inner = np.linspace(np.pi + edge, np.pi - edge, 32)
    return np.concatenate(
        [
            np.stack([np.cos(outer), np.sin(outer)], axis=1),
            np.stack([2 * bite + np.cos(inner), np.sin(inner)], axis=1),
        ]
    )


def _heart() -> FloatingArray:
    """Return the usual heart curve as a (64, 2) polygon, scaled into the unit disc."""
    t = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    y = -13 * np.cos(t) + 5 * np.cos(2 * t) + 2 * np.cos(3 * t) + np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, y], axis=1) / 17


# Every outline fits the unit disc, so that one radius sizes them all.
SHAPES: dict[str, Outlines] = {
    "disc": (_round(),),
    "ring": (_round(), _round(0.5)),
    "crescent": (_crescent(),),
    "square": (_spiked(2, 1.0),),
    "triangle": (_spiked(3, 0.5),),
    "star": (_spiked(5, 0.42),),
    "cross": (_cross(),),
    "heart": (_heart(),),
}
