"""Targets given as the graphs' own tensors, as requests to a service and to Triton give them."""

from collections.abc import Mapping, Sequence

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.kinds import Box, Cells, Like, Region
from fusioncam.runtime.targets.tasks import Asked, Checked, checked_target


def given_targets(
    manifest: Manifest, classes: Sequence[int], tensors: Mapping[str, Array], pictures: int
) -> list[Checked]:
    """Return the target of each picture, checked.

    Args:
        manifest: The bundle's.
        classes: The class of each picture, -1 where none is named.
        tensors: Others of the form's tensors by name, of one row for all pictures or one for each. A region of zeros is
            none, and so is a box; a box is in pixels of the input.
        pictures: Their number.

    Raises:
        UsageError: A tensor is missing, is none of this model, or does not fit.
    """
    known = {t.name: t for t in manifest.form.asked}
    for name, rows in tensors.items():
        if name not in known:
            raise UsageError(f"a target of this model has no {name!r}: give {' and '.join(map(repr, known))}")
        shape = known[name].shape
        if rows.shape[1:] != shape or len(rows) not in (1, pictures):
            wanted = ", ".join(map(str, ("1 or " * (pictures > 1) + str(pictures), *shape)))
            raise UsageError(f"{name!r} must be ({wanted}), not {rows.shape}")
    return [checked_target(manifest, _of_picture(manifest, c, _row(tensors, n))) for n, c in enumerate(classes)]


def _row(tensors: Mapping[str, Array], n: int) -> dict[str, Array]:
    return {name: rows[n if len(rows) > 1 else 0] for name, rows in tensors.items()}


def _of_picture(manifest: Manifest, c: int, tensors: Mapping[str, Array]) -> Asked:
    if "reference" in tensors and c < 0:
        return Like(tensors["reference"])
    if manifest.form.kind not in ("maps", "boxes") or not tensors:
        return c
    class_, region, peak = None if c < 0 else c, tensors.get("region"), bool(tensors.get("peak", False))
    if "box" in tensors:
        return Box(class_, tuple(tensors["box"].tolist())) if tensors["box"].any() else Box(class_)
    return Region(class_, peak=peak) if region is None or not region.any() else Cells(class_, region, peak)
