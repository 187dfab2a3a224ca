"""Resize in all its modes: a matrix along each axis, which is measured, not derived."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.reader import number_for
from fusioncam.export.gradient.rules.measure import run_node
from fusioncam.export.gradient.rules.table import Step, along, rule
from fusioncam.export.gradient.tape import dims
from fusioncam.kernels.arrays import Array, Float32Array


@rule("Resize")
def _resize(s: Step) -> ir.Value:
    before, now = dims(s.x), list(dims(s.y))
    gradient = s.dy
    if before == tuple(now) and not _crops(s):
        return gradient  # whatever the scales, onnxruntime copies
    for axis, (small, large) in enumerate(zip(before, now, strict=True)):
        if small != large or _scale(s, axis) != 1 or _region(s, axis) != (0, 1):
            if small is None or large is None:
                raise NotImplementedError("a resized batch")
            gradient = along(s, _matrix(s, axis, small, large).T, gradient, tuple(now), axis)
            now[axis] = small
    return gradient


def _crops(s: Step) -> bool:
    """Return whether only a region is taken."""
    return bool(s.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize")


def _for_axis(s: Step, numbers: Array | None, axis: int) -> float | None:
    """Return the entry for `axis` of numbers for all axes, or for those that the node names."""
    number = number_for(axis, numbers, s.attribute("axes"), len(dims(s.x)))
    return None if number is None else float(number)


def _scale(s: Step, axis: int) -> float:
    """Return the given scale along `axis`: one that is not 1 may move samples without changing their number."""
    scale = _for_axis(s, s.array(2) if s.has(2) else None, axis)
    return 1 if scale is None else scale


def _region(s: Step, axis: int) -> tuple[float, float]:
    """Return the start and the end of what is taken of `axis`, as shares of it."""
    if not _crops(s):
        return 0, 1
    start, end = (_for_axis(s, half, axis) for half in np.split(s.array(1), 2))
    return (0, 1) if start is None or end is None else (start, end)


def _matrix(s: Step, axis: int, small: int, large: int) -> Float32Array:
    """Return the (large, small) matrix that the node applies along `axis`: its response to every unit vector.

    Beside that axis lies another, as nothing is resized where all sizes stay, and as it may decide the scale of both.
    The response to zero, which an extrapolation has, is taken off.
    """
    wide, beside = 1, 2 if small == large else 1
    attributes = {a.name: a.value for a in s.node.attributes.values()} | {"axes": [2, 3]}
    region = np.array([0, 0, 1, 1], np.float32)
    region[1::2] = _region(s, axis)
    if s.has(2) and s.array(2).size:
        size: list[Array | None] = [np.array([beside, _scale(s, axis)], np.float32)]
    elif s.attribute("keep_aspect_ratio_policy", "stretch") == "stretch":
        size = [None, np.array([beside, large], np.int64)]
    else:
        wide, beside = _deciding(s)
        size = [None, np.array([beside, _for_axis(s, s.array(3), axis)], np.int64)]
    unit = np.concatenate([np.eye(small), np.zeros((1, small))]).astype(np.float32)
    x = np.broadcast_to(unit[None, :, None], (1, small + 1, wide, small)).copy()
    *responses, zero = run_node("Resize", 19, [x, region, *size], attributes)[0, :, 0]
    return np.ascontiguousarray((np.array(responses) - zero).T)


def _deciding(s: Step) -> tuple[int, int]:
    """Return the present and the wanted size of the axis that decides the scale of all, where they keep their ratio."""
    wanted = [(size, _for_axis(s, s.array(3), axis)) for axis, size in enumerate(dims(s.x))]
    sizes = [(size, int(number)) for size, number in wanted if size is not None and number is not None]
    choose = min if s.attribute("keep_aspect_ratio_policy") == "not_larger" else max
    return choose(sizes, key=lambda size: size[1] / size[0])
