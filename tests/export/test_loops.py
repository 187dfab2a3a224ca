"""From export to maps of networks with control flow: a choice by the picture, and a loop of many turns."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as fn
from onnx import numpy_helper

from fusioncam import Explainer
from fusioncam.export import check, export_model
from fusioncam.manifest import EXPLAIN_GRAPH

TURNS = 20  # more than are written out
rng = np.random.default_rng(3)
WEIGHTS = {
    "w": rng.normal(size=(6, 3, 3, 3)),
    "mix": rng.normal(size=(6, 6, 1, 1)) / 3,
    "v": rng.normal(size=(6, 4)),
    "limit": 0.45,
    "half": 0.5,
}
# Pixels refine the layer turn by turn; then what is bright is squashed.
TEXT = f"""
    <ir_version: 8, opset_import: ["": 18]>
    g (float[N, 3, 12, 10] image) => (float[N, 4] scores) <int64 turns = {{{TURNS}}}> {{
        c = Conv <kernel_shape=[3, 3], strides=[2, 2]> (image, w)
        layer = Relu (c)
        x = Loop (turns, , layer) <
            body = b (int64 i, bool on, float[N, 6, 5, 4] old) => (again, new) {{
                again = Identity (on)
                mixed = Conv (old, mix)
                bent = Tanh (mixed)
                less = Mul (bent, half)
                new = Add (layer, less)
            }}
        >
        DECIDED
        pooled = GlobalAveragePool (chosen)
        flat = Flatten (pooled)
        scores = MatMul (flat, v)
    }}
"""
CHOICE = """
    mean = ReduceMean <keepdims=0> (image)
    bright = Greater (mean, limit)
    chosen = If (bright) <
        then_branch = t () => (then) { then = Sigmoid (x) },
        else_branch = e () => (else) { else = Mul (x, x) }
    >
"""


def scores_of(layer, picture, choice):
    weights = {k: torch.tensor(v) for k, v in WEIGHTS.items()}
    x = layer
    for _ in range(TURNS):
        x = layer + fn.conv2d(x, weights["mix"]).tanh() / 2
    if choice:
        x = x.sigmoid() if picture.mean() > WEIGHTS["limit"] else x * x
    return x.mean((2, 3)) @ weights["v"]


@pytest.mark.parametrize("choice", [False, True], ids=["loop", "choice"])
def test_gradients_are_those_of_autograd(choice, tmp_path, installed_builder):
    source, bundle = tmp_path / "m.onnx", tmp_path / "m.fcam"
    model = onnx.parser.parse_model(TEXT.replace("DECIDED", CHOICE if choice else "chosen = Identity (x)"))
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in WEIGHTS.items())
    onnx.save(model, source)
    manifest = export_model(source, bundle, preprocessing="unit", layer="layer")
    assert manifest.one_by_one == choice, "a loop of so many turns decides nothing"
    assert all(f.ok for f in check(bundle))
    if not isinstance(installed_builder, str):
        built = (installed_builder.build(path, batch=(1, 1, 1 if choice else 4)) for path in bundle.glob("*.onnx"))
        assert not any(each.refusal for each in built)
    session = onnxruntime.InferenceSession(str(bundle / EXPLAIN_GRAPH))
    for brightness in (0.5, 1.0):
        picture = rng.random((1, 3, 12, 10), np.float32) * np.float32(brightness)
        feeds = {session.get_inputs()[0].name: picture, "class_index": np.array([2])}
        activations, gradients = session.run(["activations", "gradients"], feeds)
        layer = torch.tensor(activations, dtype=torch.float64, requires_grad=True)
        (expected,) = torch.autograd.grad(scores_of(layer, picture, choice)[0, 2], layer)
        np.testing.assert_allclose(gradients, expected, atol=1e-5 * float(expected.abs().max()))
    found = Explainer(bundle, methods=("grad_cam", "layer_cam")).explain_batch([picture[0], picture[0] / 2])
    assert all(np.ptp(each.maps["layer_cam"]) == 1 for each in found)
