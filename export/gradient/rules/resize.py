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
    if s.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise NotImplementedError("coordinate_transformation_mode tf_crop_and_resize")
    if s.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise NotImplementedError("a keep_aspect_ratio_policy")
    before, now = dims(s.x), list(dims(s.y))
    gradient = s.dy
    if before == tuple(now):
        return gradient  # whatever the scales, onnxruntime copies
    for axis, (small, large) in enumerate(zip(before, now, strict=True)):
        if small != large or _scale(s, axis) != 1:
            if small is None or large is None:
                raise NotImplementedError("a resized batch")
            gradient = along(s, _matrix(s, axis, small, large).T, gradient, tuple(now), axis)
            now[axis] = small
    return gradient


def _scale(s: Step, axis: int) -> float:
    """Return the given scale along `axis`: one that is not 1 may move samples without changing their number."""
    scale = number_for(axis, s.array(2) if s.has(2) else None, s.attribute("axes"), len(dims(s.x)))
    return 1 if scale is None else float(scale)


def _matrix(s: Step, axis: int, small: int, large: int) -> Float32Array:
    """Return the (large, small) matrix that the node applies along `axis`: its response to every unit vector."""
    beside = 2 if small == large else 1  # as nothing is resized where all sizes stay
    if s.has(2) and s.array(2).size:
        size: list[Array | None] = [np.array([1, 1, beside, _scale(s, axis)], np.float32)]
    else:
        size = [None, np.array([1, small, beside, large], np.int64)]
    attributes = {a.name: a.value for a in s.node.attributes.values() if a.name != "axes"}
    unit = np.eye(small, dtype=np.float32).reshape(1, small, 1, small)
    responses = run_node("Resize", 19, [unit, None, *size], attributes)
    return np.ascontiguousarray(responses.reshape(small, beside, large)[:, 0].T)
