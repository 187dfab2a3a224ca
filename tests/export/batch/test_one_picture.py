"""Models of one picture that take the axis of pictures off for a while take any batch all the same."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from fusioncam.export.canonical import canonicalize

# How (1, 3, 8, 8) becomes one picture, what is done with it, and how it is a batch again.
TAKEN = {
    "squeeze": "p = Squeeze (image, axis0)",
    "gather": "p = Gather (image, number0)",
    "split": "q = Split <axis = 0> (image, one) p = Squeeze (q, axis0)",
}
DONE = """
a = Sub (p, mean) low, high = Split <axis = -1> (a, four_four) b = Concat <axis = 2> (high, low) c = Pad (b, pads)
d = Transpose <perm = [0, 2, 1]> (c) e = Slice (d, zero, nine, axis1) f = Reshape (e, flat) g = Unsqueeze (f, axis1)
h = Flatten (g)
"""
CONSTANTS = {
    **{"axis0": [0], "axis1": [1], "number0": 0, "one": [1], "zero": [0], "nine": [9], "four_four": [4, 4]},
    **{"pads": [0, 0, 0, 0, 0, 1], "flat": [3, 72]},
}


@pytest.mark.parametrize("way", TAKEN)
def test_the_axis_is_left_on(way, tmp_path):
    text = f"{TAKEN[way]} {DONE} i = Unsqueeze (h, axis0) j = ReduceMean <keepdims = 0> (i, axis1) y = MatMul (j, w)"
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> m (float[1,3,8,8] image) => (float[1,5] y) {{ {text} }}'
    )
    rng = np.random.default_rng(0)
    tensors = {n: np.array(v, np.int64) for n, v in CONSTANTS.items()}
    tensors |= {"mean": rng.random((3, 1, 1), np.float32), "w": rng.normal(size=(72, 5)).astype(np.float32)}
    read = {n for node in model.graph.node for n in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items() if n in read)
    onnx.save(model, tmp_path / "m.onnx")
    images = rng.random((3, 3, 8, 8), np.float32)
    source = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    alone = [source.run(None, {"image": image[None]})[0] for image in images]
    freed = onnxruntime.InferenceSession(ir.to_proto(canonicalize(tmp_path / "m.onnx").model).SerializeToString())
    np.testing.assert_allclose(freed.run(None, {"image": images})[0], np.concatenate(alone), rtol=1e-4, atol=1e-5)
