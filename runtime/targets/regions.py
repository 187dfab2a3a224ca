"""Targets of maps: a class of a segmenter over a region, or a heat map over one."""

from dataclasses import replace

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.classes import checked_number, name_of_class, name_of_value
from fusioncam.runtime.targets.kinds import Cells, Region, Target, Value
from fusioncam.runtime.targets.resolved import ResolvedTarget
from fusioncam.runtime.targets.sight import Sight, connected

LEAST_COVER = 0.02  # share of the picture that a class covers at least to be a target by default
NAMED = 5  # classes that an error names


def check_region(target: Region, manifest: Manifest) -> Target:
    """Return the target with its class by its number; raise UsageError where it makes no sense."""
    if target.mask is not None and target.point is not None:
        raise UsageError("a region has a mask or a point, not both")
    c = checked_number(manifest, target.class_)
    return replace(target, class_=None if c < 0 else c)


def resolve_region(target: Region, sight: Sight) -> ResolvedTarget:
    """Return a class of a segmenter over a mask, over its part at a point, or where it wins."""
    c, detail = target.class_, ""
    weights: Array
    if target.mask is not None:
        weights, detail = sight.shares(target.mask), "in the mask"
        c = int((sight.form * weights).sum(axis=(1, 2)).argmax()) if c is None else c
    elif target.point is not None:
        cell, detail = sight.cell(target.point), "at {:g}, {:g}".format(*target.point)
        c = _class_at(c, cell, sight)
        weights = connected(sight.wins[c], cell)
    else:
        c = int(sight.wins.sum(axis=(1, 2)).argmax()) if c is None else c
        weights = sight.wins[int(c)]
        if not weights.any():
            raise UsageError(f"{name_of_class(sight.manifest, int(c))} wins nowhere in this picture; {_winners(sight)}")
    return _over(int(c), weights, target.peak, detail, sight.manifest)


def check_cells(target: Cells, manifest: Manifest) -> Target:
    """Return the target; raise UsageError where its weights are no region of the maps."""
    c, weights = checked_number(manifest, target.class_), np.asarray(target.weights, np.float32)
    if weights.shape != manifest.form.output.shape[1:]:
        grid = manifest.form.output.shape[1:]
        raise UsageError(
            f"a region of {weights.shape} does not fit maps of {grid}: give the share of each of their cells"
        )
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UsageError("the weights of a region must be finite, not below zero, and some above it")
    return replace(target, class_=None if c < 0 else c, weights=weights)


def resolve_cells(target: Cells, sight: Sight) -> ResolvedTarget:
    """Return a map over weights of its cells."""
    best = target.class_ is None
    c = int((sight.form * target.weights).sum(axis=(1, 2)).argmax()) if best else int(target.class_ or 0)
    return _over(c, target.weights, target.peak, "in the region", sight.manifest)


def _over(c: int, weights: Array, peak: bool, detail: str, manifest: Manifest) -> ResolvedTarget:
    """Return the target of a map over a region, by weights (h', w')."""
    tensors: dict[str, Array] = {
        "class_index": np.array(c, np.int64),
        "region": np.asarray(weights, np.float32),
        "peak": np.array(peak, np.bool_),
    }
    details = ", ".join(word for word in (detail, "peak" if peak else "") if word)
    return ResolvedTarget("region", c, manifest.labels[c] if manifest.labels else None, tensors, detail=details)


def _class_at(class_: int | str | None, cell: tuple[int, int], sight: Sight) -> int:
    """Return the class that wins at a cell; raise UsageError where it is not the one that was named."""
    winning = [int(c) for c in np.flatnonzero(sight.wins[:, cell[0], cell[1]])]
    best = sorted(winning, key=lambda c: -float(sight.form[c, cell[0], cell[1]]))
    if class_ is None and best:
        return best[0]
    if class_ is not None and int(class_) in winning:
        return int(class_)
    if not best:
        raise UsageError(f"no class wins at the point; elsewhere {_winners(sight)}")
    names = " and ".join(name_of_class(sight.manifest, c) for c in best[:NAMED])
    raise UsageError(f"{name_of_class(sight.manifest, int(class_ or 0))} does not win at the point: {names} does")


def _winners(sight: Sight) -> str:
    """Return the classes that win somewhere, the largest first, for an error."""
    areas = sight.wins.sum(axis=(1, 2))
    order = [int(c) for c in np.argsort(-areas, kind="stable") if areas[c]]
    names = ", ".join(name_of_class(sight.manifest, c) for c in order[:NAMED]) + (", ..." if len(order) > NAMED else "")
    return f"these do: {names}" if order else "no class does, so give a mask"


def winning_regions(sight: Sight) -> list[Target]:
    """Return every class that covers enough of the picture, the largest first; else the largest alone."""
    areas = sight.wins.mean(axis=(1, 2))
    order = [int(c) for c in np.argsort(-areas, kind="stable") if areas[c]]
    if not order:
        raise UsageError("no class wins anywhere in this picture; give a region with a mask")
    return [Region(c) for c in order if areas[c] >= LEAST_COVER] or [Region(order[0])]


def resolve_map_value(target: Value, sight: Sight) -> ResolvedTarget:
    """Return the mean of a heat map over the whole picture."""
    whole = _over(target.column, np.ones(sight.grid), False, "down" if target.down else "", sight.manifest)
    return replace(
        whole, kind="value", label=name_of_value(sight.manifest, target.column), sign=-1 if target.down else 1
    )


def resolve_map_region(target: Region, sight: Sight) -> ResolvedTarget:
    """Return a heat map over a mask, or over the whole picture."""
    if target.point is not None:
        raise UsageError("heat maps have no parts that a point could name: give a mask, or neither for all of a map")
    masked = target.mask is not None
    weights = sight.shares(target.mask) if masked else np.ones(sight.grid)
    c = int((sight.form * weights).sum(axis=(1, 2)).argmax()) if target.class_ is None else int(target.class_)
    over = _over(c, weights, target.peak, "in the mask" if masked else "", sight.manifest)
    return replace(over, label=name_of_value(sight.manifest, c))
