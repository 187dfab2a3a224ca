"""Models of any number of channels, and arrays for them; `conftest.py` hands them out as the fixture `channels`."""

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export import export_model

SIZE, LAYERS, CLASSES = (24, 20), 6, 4
FORMS = {
    "grey": (1, False),
    "four": (4, False),
    "thirteen": (13, False),
    "grey_last": (1, True),
    "four_last": (4, True),
}
REFLECTANCE = {"rescale": 1e-4, "mean": 0.1, "std": 0.5, "channel_order": "bands"}


def weights_of(channels):
    rng = np.random.default_rng(channels)
    shapes = {"w": (LAYERS, channels, 3, 3), "v": (LAYERS, CLASSES), "b": (LAYERS,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def save_model(path, channels, last=False):
    """Conv - Relu - pool - Gemm, of N x C x H x W, or N x H x W x C."""
    first = [helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2])] if last else []
    nodes = [
        *first,
        helper.make_node("Conv", ["nchw" if last else "input", "w", "b"], ["conv"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["scores"]),
    ]
    shape = ["N", *SIZE, channels] if last else ["N", channels, *SIZE]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(v, k) for k, v in weights_of(channels).items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def raw(channels, seed=0):
    """Reflectances of a scene, (48, 50, C) uint16."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 9000, (6, 7, channels)).astype(np.float32)
    planes = [cv2.resize(coarse[..., c], (50, 48), interpolation=cv2.INTER_CUBIC) for c in range(channels)]
    return np.stack(planes, axis=2).clip(0, 10000).astype(np.uint16)


def bundle_of(form, folder, **options):
    """Exports the model of a form."""
    source = save_model(folder / f"{form}.onnx", *FORMS[form])
    export_model(source, folder / f"{form}.fcam", **{"preprocessing": REFLECTANCE, **options})
    return folder / f"{form}.fcam"
