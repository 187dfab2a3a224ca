"""Networks that come with the onnx package (opset 9, IR 3, batch 1), with random weights put in: the small ones."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fusioncam.export import export_model
from fusioncam.export.checking.gradient import compare_gradient

FOLDER = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LAYERS = {
    "bvlc_alexnet": (256, 6, 6),
    "shufflenet": (544, 7, 7),
    "squeezenet": (512, 13, 13),
}
INNER = 4096  # width of the fully connected layers, here 64


def with_weights(model):
    """The model with random weights, scaled such that the logits neither vanish nor explode."""
    rng = np.random.default_rng(0)
    shapes = {i.name: numpy_helper.to_array(i).tolist() for i in model.graph.initializer}
    users = {v: (n.op_type, i) for n in reversed(model.graph.node) for i, v in enumerate(n.input)}
    users |= {v: users[n.output[0]] for n in model.graph.node if n.op_type == "Unsqueeze" for v in n.input}

    def put(node, dims, op_type="", i=0):
        shape = [64 if d == INNER else d for d in dims]
        return numpy_helper.from_array(weights(rng, shape, op_type, i), node)

    stored = list(model.graph.initializer)
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        model.graph.initializer.append(put(node.output[0], shapes[node.input[0]], *users[node.output[0]]))
        model.graph.node.remove(node)
    for old in stored:
        if old.data_type == onnx.TensorProto.FLOAT and len(old.dims) == 1:
            old.CopyFrom(put(old.name, old.dims, *users[old.name]))
    for given in list(model.graph.input):
        if given.name in shapes:
            model.graph.input.remove(given)
    # IR 3 wants every initializer among the inputs.
    model.graph.input.extend(
        helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in model.graph.initializer
    )
    return model


def weights(rng, shape, op_type, i):
    if len(shape) > 1:
        scale = np.sqrt(2 / np.prod(shape[1:]))
        return rng.normal(0, scale, shape).astype(np.float32)
    positive = (op_type, i) in (("BatchNormalization", 1), ("BatchNormalization", 4)) or op_type == "Mul"
    return (rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.1, shape)).astype(np.float32)


@pytest.mark.parametrize("name", LAYERS)
def test_light_model(name, tmp_path):
    source = tmp_path / "model.onnx"
    onnx.save(with_weights(onnx.load(FOLDER / f"light_{name}.onnx")), source)
    manifest = export_model(source, tmp_path / "model.fcam")
    assert manifest.layer.shape == LAYERS[name]
    assert [f for f in compare_gradient(tmp_path / "model.fcam", manifest) if not f.ok] == []
