"""The nine networks that come with the onnx package (opset 9, IR 3, batch 1), with random weights put in."""

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
    "densenet121": (1024, 7, 7),
    "inception_v1": (1024, 6, 6),
    "inception_v2": (1024, 7, 7),
    "resnet50": (2048, 7, 7),
    "shufflenet": (544, 7, 7),
    "squeezenet": (512, 13, 13),
    "vgg19": (128, 7, 7),
    "zfnet512": (512, 6, 6),
}
INNER = 4096  # width of the fully connected layers, here 64


def with_weights(model, name):
    """The model with random weights, scaled such that the logits neither vanish nor explode."""
    rng = np.random.default_rng(0)
    shapes = {i.name: numpy_helper.to_array(i).tolist() for i in model.graph.initializer}
    users = {v: (n.op_type, i) for n in reversed(model.graph.node) for i, v in enumerate(n.input)}
    users |= {v: users[n.output[0]] for n in model.graph.node if n.op_type == "Unsqueeze" for v in n.input}
    # Narrow where it is wide and where a quarter of all channels fits together: else these take hundreds of MB.
    thin = 4 if name == "vgg19" else 1

    def put(node, dims, op_type="", i=0):
        shape = [64 if d == INNER else d // thin if d >= 64 else d for d in dims]
        return numpy_helper.from_array(weights(rng, shape, op_type, i), node)

    stored = list(model.graph.initializer)
    for node in [n for n in model.graph.node if n.op_type == "ConstantOfShape"]:
        model.graph.initializer.append(put(node.output[0], shapes[node.input[0]], *users[node.output[0]]))
        model.graph.node.remove(node)
    for old in stored:
        if users.get(old.name, ("",))[0] == "Reshape" and thin > 1:
            old.CopyFrom(numpy_helper.from_array(np.array([1, -1], np.int64), old.name))
        elif old.data_type == onnx.TensorProto.FLOAT and len(old.dims) == 1:
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
    onnx.save(with_weights(onnx.load(FOLDER / f"light_{name}.onnx"), name), source)
    manifest = export_model(source, tmp_path / "model.fcam")
    assert manifest.layer.shape == LAYERS[name]
    assert [f for f in compare_gradient(tmp_path / "model.fcam", manifest) if not f.ok] == []
