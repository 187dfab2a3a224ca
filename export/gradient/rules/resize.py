"""Resize, in all its modes: along each axis it is a matrix, and that matrix is measured, not derived."""

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import dims


@rule("Resize")
def _resize(s: Step) -> ir.Value:
    s.only_input(0)
    if s.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise NotImplementedError("coordinate_transformation_mode tf_crop_and_resize")
    before, after = dims(s.x), dims(s.y)
    rank = len(before)
    gradient = s.dy
    for axis in (a for a in range(rank) if before[a] != after[a]):
        small, large = before[axis], after[axis]
        if small is None or large is None:
            raise NotImplementedError("a resized batch")
        matrix = s.op.like(_matrix(s, axis, small, large), s.x)
        if axis == rank - 1:
            gradient = s.op.MatMul(gradient, matrix)
        elif axis == rank - 2:
            gradient = s.op.MatMul(s.op.like(_matrix(s, axis, small, large).T, s.x), gradient)
        else:
            raise NotImplementedError("an axis other than the last two")
    return gradient


def _matrix(s: Step, axis: int, small: int, large: int) -> npt.NDArray[np.float32]:
    """The (large, small) matrix this very node applies along `axis`: its response to every unit vector."""
    scales, sizes = None, np.array([1, small, 1, large], np.int64)
    if s.has(2) and s.array(2).size:
        listed = s.attribute("axes", list(range(len(dims(s.x)))))
        where = [a % len(dims(s.x)) for a in listed].index(axis)
        scales, sizes = np.array([1, 1, 1, s.array(2)[where]], np.float32), None
    attributes = {
        a.name: a.value for a in s.node.attributes.values() if a.name not in ("axes", "keep_aspect_ratio_policy")
    }
    given = {k: v for k, v in (("scales", scales), ("sizes", sizes)) if v is not None}
    node = onnx.helper.make_node(
        "Resize", ["x", "", "scales" if sizes is None else "", "sizes" if scales is None else ""], ["y"], **attributes
    )
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(v, k) for k, v in given.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    unit = np.eye(small, dtype=np.float32).reshape(1, small, 1, small)
    responses = np.asarray(session.run(None, {"x": unit})[0], np.float32)
    return np.ascontiguousarray(responses.reshape(small, large).T)
