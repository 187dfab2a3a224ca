"""Rules for the place of the batch: operators that move, cut, join and pick elements."""

import itertools
from dataclasses import replace

import numpy as np

from fusioncam.export.batch.batch_axis import NoPlaceError, Passage, Place, Visit, passage
from fusioncam.export.batch.operator_rules import FRONT, NOT_ONE_BY_ONE
from fusioncam.export.gradient.reader import number_for


@passage("Reshape")
def _reshape(v: Visit) -> list[Passage]:
    v.only(0)
    return [v.everywhere(p) for p in _reshaped(v)]


@passage("Flatten")
def _flatten(v: Visit) -> list[Passage]:
    split = v.attribute("axis", 1) % (len(v.before) + 1)
    return [v.everywhere(p) for p in _reshaped(v) if p.axis == (v.place(0).axis >= split)]


def _reshaped(v: Visit) -> list[Place]:
    """Return the places whose part of memory holds the batch; first those that begin with it."""
    place, after = v.place(0), v.after
    ahead = int(np.prod(v.before[: place.axis])) * place.lead
    outers = [1, *itertools.accumulate(after, lambda a, b: a * b)]
    places = []
    for axis, (outer, size) in enumerate(zip(outers, after, strict=False)):
        if outer and ahead % outer == 0 and size % (ahead // outer * v.batch) == 0:
            places.append(Place(axis, ahead // outer))
    if not places:
        raise NoPlaceError("folds the batch into another axis")
    return sorted(places, key=lambda p: p.lead > 1)


@passage("Transpose")
def _transpose(v: Visit) -> list[Passage]:
    order = list(v.attribute("perm", range(len(v.before))[::-1]))
    return [v.everywhere(replace(v.place(0), axis=order.index(v.place(0).axis)))]


@passage("Squeeze", "Unsqueeze")
def _squeeze(v: Visit) -> list[Passage]:
    place, rank = v.place(0), max(len(v.before), len(v.after))
    squeezed = v.constant(1)
    if squeezed is None and v.has(1):
        raise NoPlaceError("works along axes that are no constants")
    ones = [i for i, d in enumerate(v.before) if d == 1]
    axes = ones if squeezed is None else [int(a) % rank for a in squeezed.ravel()]
    kept = [i for i in range(rank) if i not in axes]
    if v.node.op_type == "Unsqueeze":
        return [v.everywhere(replace(place, axis=kept[place.axis]))]
    if place.axis not in kept:
        raise NoPlaceError("drops the batch axis")
    return [v.everywhere(replace(place, axis=kept.index(place.axis)))]


@passage("Expand", "Tile", "Pad", "Slice", "Resize")
def _resized(v: Visit) -> list[Passage]:
    """Keep the place of the batch, the only axis that may not change; an axis whose size stays counts as unchanged."""
    v.only(0)
    place = v.place(0)
    place = replace(place, axis=place.axis + len(v.after) - len(v.before))
    kind, rank = v.node.op_type, len(v.before)
    parts = kind == "Slice" and v.batch == 1 and place.lead == 1 and v.has(3)  # of one image, such as its first frame
    if v.after[place.axis] != v.before[v.place(0).axis] and not parts:
        raise NoPlaceError("cuts or repeats the images of the batch")
    if kind in ("Tile", "Pad", "Slice") and any(v.has(i) and v.constant(i) is None for i in (1, 2, 3, 4)):
        raise NoPlaceError("cuts or repeats by tensors that are no constants")
    if kind == "Slice" and (number_for(place.axis, v.constant(4), v.constant(3), rank) or 1) < 0:
        raise NoPlaceError("reverses the order of the batch")
    if kind == "Resize" and (number_for(place.axis, v.constant(2), v.attribute("axes"), rank) or 1) != 1:
        raise NoPlaceError("repeats the images of the batch")
    pads = v.constant(1) if kind == "Pad" else None
    if pads is not None and np.any(number_for(place.axis, pads.reshape(2, -1).T, v.constant(3), rank)):
        raise NoPlaceError("pads and cuts the batch")
    return [v.everywhere(place)]


@passage("Concat")
def _concat(v: Visit) -> list[Passage]:
    place = v.place(v.carrying[0])
    if place.axis == v.attribute("axis") % len(v.before):
        raise NoPlaceError("joins along the batch")
    return [v.stacked(place, range(len(v.node.inputs)))]


@passage("Gather")
def _gather(v: Visit) -> list[Passage]:
    axis, picked = v.attribute("axis", 0) % len(v.before), len(v.shape(1))
    if v.carries(0) and v.carries(1):
        if v.batch > 1 or v.place(0) != Place(axis) or v.place(1).lead > 1:
            raise NoPlaceError("picks by numbers that are computed from the image")
        return [Passage((Place(axis + v.place(1).axis),), picks_own=True)]
    if v.carries(1):
        place = replace(v.place(1), axis=axis + v.place(1).axis)
        front = v.batch == 1 and place.axis > 0 and place.lead == 1 and max(v.after[: place.axis]) == 1
        return [v.everywhere(place), *([Passage((FRONT,), reshaped=True)] if front else [])]
    place = v.place(0)
    if place.axis == axis:
        raise NoPlaceError(NOT_ONE_BY_ONE)
    return [v.everywhere(place if place.axis < axis else replace(place, axis=place.axis + picked - 1))]


@passage("GatherElements", "ScatterElements")
def _elements(v: Visit) -> list[Passage]:
    place = v.place(v.carrying[0])
    if place.axis == v.attribute("axis", 0) % len(v.before):
        raise NoPlaceError(NOT_ONE_BY_ONE)
    return [v.stacked(place, range(len(v.node.inputs)))]


@passage("GatherND")
def _gather_rows(v: Visit) -> list[Passage]:
    stacked, indexed, rank = v.attribute("batch_dims", 0), v.shape(1)[-1], len(v.shape(1))
    place = v.place(v.carrying[0])
    if place.axis < stacked:
        return [v.stacked(place, [0, 1])]
    if v.carrying == [1] and place.axis < rank - 1:
        return [v.everywhere(place)]
    if v.carrying == [0] and place.axis >= stacked + indexed:
        return [v.everywhere(replace(place, axis=place.axis - stacked - indexed + rank - 1))]
    raise NoPlaceError(NOT_ONE_BY_ONE)


@passage("ScatterND")
def _scatter_rows(v: Visit) -> list[Passage]:
    v.only(0, 2)
    indexed, rank = v.shape(1)[-1], len(v.shape(1))
    shift = rank - 1 - indexed  # how far the axes behind those that the indices name are moved in the updates
    place = v.place(0) if v.carries(0) else replace(v.place(2), axis=v.place(2).axis - shift)
    inside = replace(place, axis=place.axis + shift)
    if place.axis < indexed or (v.carries(2) and v.place(2) != inside):
        raise NoPlaceError("names the images of the batch one by one")
    operands = {i: p for i, p in ((0, place), (2, inside)) if not v.carries(i)}
    return [v.everywhere(place, operands, broadcasts=False)]
