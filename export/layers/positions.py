"""Arrays of positions: where in the picture the elements of a tensor come from.

A position is a complex number y + x i, both in 0..1 from the top left; `NOWHERE` (NaN) is that of a constant, a class
token, a global mean. An array of them has the rank of its tensor, for a batch of one, and size 1 along axes where
nothing changes. Along a single axis, that of a signal or the depth of a volume, a position is a real number.
"""

import math
from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from fusioncam.kernels.arrays import Complex64Array

Positions: TypeAlias = Complex64Array

NOWHERE = np.complex64(complex(math.nan, math.nan))
NEAR = 2.0  # cells; so far apart are the parts of a window that is summed one by one
STEPS = 2.0**20  # positions are whole multiples of 1 / STEPS, so that equal ones are equal to the last bit


def regular(*sizes: int) -> Positions:
    """Return the centres of a grid of cells over the picture, (h, w), or along one axis, (l,)."""
    rows, *columns = ((np.arange(n) + 0.5) / n for n in sizes)
    centres = rows[:, None] + 1j * columns[0][None, :] if columns else rows
    return exact(centres.astype(np.complex64))


def sizes(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of `value` for a batch of one, whose multiples are written as `4*N`; other names count as 1."""
    assert value.shape is not None
    return tuple(
        d if isinstance(d, int) else math.prod(int(f) for f in str(d).split("*") if f.isdecimal()) for d in value.shape
    )


def nowhere(array: Positions) -> bool:
    """Return whether no element has a position."""
    return bool(np.isnan(array).all())


def exact(array: Positions) -> Positions:
    """Round to whole steps; every NaN gets the same bits."""
    rounded = np.round(array.real * STEPS) / STEPS + 1j * (np.round(array.imag * STEPS) / STEPS)
    made: Positions = np.where(np.isnan(array), NOWHERE, rounded).astype(np.complex64)
    return made


def compressed(array: Positions) -> Positions:
    """Keep one element along axes where nothing changes; a single position says nothing, and is none."""
    bits = np.ascontiguousarray(array).view(np.uint64)
    for axis in range(array.ndim):
        if bits.shape[axis] > 1 and bool((bits == bits.take([0], axis)).all()):
            bits = bits.take([0], axis)
    positions = np.ascontiguousarray(bits).view(np.complex64)
    somewhere = positions[~np.isnan(positions)]
    return positions if len(np.unique(somewhere)) > 1 else np.full((1,) * array.ndim, NOWHERE)


def mean(array: Positions, axes: Iterable[int]) -> Positions:
    """Return the mean position along `axes`, which stay with size 1; elements without one do not count."""
    varying = tuple(a for a in axes if array.shape[a] > 1)
    if not varying:
        return array
    there = ~np.isnan(array)
    count = there.sum(axis=varying, keepdims=True)
    total = np.where(there, array, 0).sum(axis=varying, keepdims=True, dtype=np.complex128)
    return compressed(exact(np.where(count > 0, total / np.maximum(count, 1), NOWHERE).astype(np.complex64)))


def resampled(array: Positions, axis: int, before: int, after: int) -> Positions:
    """Spread the positions of `before` cells along an axis over `after` cells that cover the same."""
    if before == after or array.shape[axis] == 1:
        return array
    at = (np.arange(after) + 0.5) * before / after - 0.5
    low = np.clip(np.floor(at), 0, before - 2).astype(np.intp)
    share = (at - low).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    mixed = array.take(low, axis) * (1 - share) + array.take(low + 1, axis) * share
    return compressed(exact(mixed.astype(np.complex64)))


def unpadded(array: Positions, axis: int, length: int, reach: int) -> tuple[Positions, int]:
    """Cut off what a Pad has added along an axis, as if the windows that follow were padded themselves.

    Args:
        array: The positions of what the windows go over.
        axis: The axis.
        length: Its size in the tensor.
        reach: How far a window reaches. Where more was added on one side, the padding is part of the picture.

    Returns:
        The positions, and the size of the axis without the padding.
    """
    others = tuple(i for i in range(array.ndim) if i != axis)
    there = np.flatnonzero(~np.isnan(array).all(axis=others))
    if not 0 < len(there) < array.shape[axis] or not reach:
        return array, length
    first, last = int(there[0]), int(there[-1]) + 1
    if max(first, length - last) > reach:
        return array, length
    return array.take(range(first, last), axis), last - first


def broadcasts(shape: tuple[int, ...], wide: tuple[int, ...]) -> bool:
    """Return whether an array of `shape` broadcasts to `wide`, which has the same rank."""
    return len(shape) == len(wide) and all(a in (1, b) for a, b in zip(shape, wide, strict=True))


def finest(known: list[Positions]) -> list[Positions]:
    """Return the array that tells most positions apart (the first of several), then others that are as near as can be.

    Args:
        known: Arrays of one rank, each with some position.
    """
    along = [sum(d > 1 for d in a.shape) for a in known]
    told = [(axes, len(np.unique(a[~np.isnan(a)]))) for a, axes in zip(known, along, strict=True)]
    at = told.index(max(told))
    best, (axes, count) = known[at], told[at]
    others = [a for i, a in enumerate(known) if i != at and along[i] == axes]
    return [best, *(a for a in others if np.nanmax(np.abs(a - best), initial=0) <= NEAR / np.sqrt(count))]
