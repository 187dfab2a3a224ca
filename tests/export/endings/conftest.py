"""Small models that end in operators written as text."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

CONSTANTS = {
    "class_axis": np.array([1]),
    "two_axes": np.array([1, 2]),
    "last": np.array(4),
    "from_1": np.array([1]),
    "to_4": np.array([4]),
    "order": np.array([3, 1, 0, 2, 4]),
    "three_best": np.array([3]),
    "zero_point": np.uint8(0),
    "half_of_bytes": np.uint8(128),
    "groups": np.float32([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]),
    **{
        f"n{name}": np.float32(name.replace("_", ".")) for name in ("0", "0_1", "0_5", "0_7", "1", "2", "3", "6", "100")
    },
    "third": np.array([True, True, False, True, True]),
    "no_fourth": np.float32([0, 0, 0, -np.inf, 0]),
    "never": np.float32(-np.inf),
    "tiny": np.float32(1e-7),
    "almost_1": np.float32(1 - 1e-7),
    "step": np.float32(1 / 256),
}


@pytest.fixture
def ending(classifier, tmp_path):
    """Saves a small classifier whose logits `z` (N, classes) go through the operators of a text, to `y`."""

    def save(text, classes=5, outputs=("y",), **options):
        model = classifier(names=("image", "conv", "relu", "z"), **options)
        nodes = parser.parse_graph(f"g (float[N, K] z) => (float[N, K] y) {{ {text} }}").node
        used = {name for node in nodes for name in node.input}
        half = options.get("dtype") == TensorProto.FLOAT16
        for name in CONSTANTS.keys() & used:
            array = np.asarray(CONSTANTS[name])
            array = array.astype(np.float16) if half and array.dtype == np.float32 else array
            model.graph.initializer.append(numpy_helper.from_array(array, name))
        for weight in model.graph.initializer:
            if weight.name in ("w3", "b3"):
                array = np.ascontiguousarray(3 * numpy_helper.to_array(weight)[..., :classes])
                weight.CopyFrom(numpy_helper.from_array(array, weight.name))
        model.graph.node.extend(nodes)
        kinds = {"QuantizeLinear": TensorProto.UINT8, "ArgMax": TensorProto.INT64}
        made = {o: n for n in nodes for o in n.output}
        kinds |= {"Cast": next((a.i for o in outputs if o in made for a in made[o].attribute if a.name == "to"), 1)}
        kind = options.get("dtype", TensorProto.FLOAT)
        types = [kinds.get(made[o].op_type, kind) if o in made else kind for o in outputs]
        types = [TensorProto.INT64 if o.endswith("_index") else t for o, t in zip(outputs, types, strict=True)]
        listed = [helper.make_tensor_value_info(o, t, None) for o, t in zip(outputs, types, strict=True)]
        del model.graph.output[:]
        model.graph.output.extend(listed)
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
        onnx.save(model, tmp_path / "ending.onnx")
        return tmp_path / "ending.onnx"

    return save
