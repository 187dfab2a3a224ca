"""Small models that end in operators written as text."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fusioncam.export import export_model
from fusioncam.export.random_pictures import pictures
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import EXPLAIN_GRAPH, Manifest

# With pytest's importlib mode, test modules cannot import each other.
SPEC = importlib.util.spec_from_file_location("endings_tests_texts", Path(__file__).with_name("texts.py"))
TEXTS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TEXTS)

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


@pytest.fixture
def texts():
    """See `texts.py`."""
    return TEXTS


@pytest.fixture(params=[*TEXTS.SOFTMAX, *TEXTS.SIGMOID, *TEXTS.AGAINST])
def reached(request):
    """The names of texts from whose outputs the logits are reached."""
    return request.param


@pytest.fixture(params=TEXTS.OUT_OF_REACH)
def out_of_reach(request):
    """The names of texts from whose outputs they are not."""
    return request.param


@pytest.fixture(params=TEXTS.LOGITS)
def bare(request):
    """The names of texts whose outputs are logits."""
    return request.param


@dataclass(frozen=True)
class Explained:
    """An exported ending, and what source and bundle make of a picture."""

    bundle: Path
    manifest: Manifest
    given: Any
    probabilities: Any
    gradient: Any
    weights: Any

    def as_given(self):
        """What the source gives, as probabilities."""
        source = self.manifest.source
        given = self.given / source.scale
        return np.exp(given) if source.logarithm else given

    def points_along(self, weights, sign=1):
        """Whether Grad-CAM of the gradient is relu(sum_k w_k A_k) but for its scale, which no map keeps."""
        return same_direction(self.gradient, weights, sign)


def same_direction(gradient, weights, sign=1):
    slope = gradient.mean(axis=(1, 2))
    return np.allclose(slope / np.linalg.norm(slope), sign * weights / np.linalg.norm(weights), atol=2e-3)


@pytest.fixture
def explained(ending, tmp_path, run):
    """Exports a model of that ending, and explains class c of a picture."""

    def explain(text, c, options=(), **more):
        source = ending(text, **more)
        manifest = export_model(source, tmp_path / "e.fcam", preprocessing="unit", **dict(options))
        x = pictures(manifest, 2)[1:]
        half = more.get("dtype") == TensorProto.FLOAT16
        given = run(source, {"image": x.astype(np.float16) if half else x})["y"]
        made = run(tmp_path / "e.fcam" / EXPLAIN_GRAPH, {"image": x, "class_index": np.array([c])})
        return Explained(
            bundle=tmp_path / "e.fcam",
            manifest=manifest,
            given=given.astype(np.float64).ravel(),
            probabilities=probabilities(made["logits"][0], manifest.ending),
            gradient=made["gradients"][0].astype(np.float64),
            weights=weights_of(source).astype(np.float64),
        )

    return explain


def weights_of(source):
    return {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["w3"]


@pytest.fixture
def points_along_weights(run):
    """Whether the gradient of a bundle for class c of a picture points along the weights of its source."""

    def test(source, bundle, x, c):
        gradients = run(bundle / EXPLAIN_GRAPH, {"image": x, "class_index": np.array([c])})["gradients"]
        return same_direction(gradients[0], weights_of(source)[:, c].astype(float))

    return test
