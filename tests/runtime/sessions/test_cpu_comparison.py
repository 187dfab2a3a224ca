"""A provider that gives other results than the CPU is refused when a graph is opened."""

import importlib.util

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.errors import ProviderError
from fusioncam.export import export_model
from fusioncam.manifest import read_bundle
from fusioncam.runtime.providers.table import PROVIDERS
from fusioncam.runtime.sessions.cpu_comparison import distance, hold_against_cpu
from fusioncam.runtime.sessions.open import open_session


class Changed:
    """A session whose output of a name is changed on the way."""

    def __init__(self, session, name, change):
        self._session, self._name, self._change = session, name, change

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, outputs, feeds):
        found = dict(zip(outputs, self._session.run(outputs, feeds), strict=True))
        return [self._change(v) if n == self._name else v for n, v in found.items()]


@pytest.mark.parametrize("graph", ["explain.onnx", "score.onnx", "head.onnx"])
def test_equal_results_pass(graph, tiny):
    path, sizes = tiny.bundle / graph, {"N": 3, "M": 2}
    session = open_session(path)
    hold_against_cpu(session, lambda: open_session(path), path, read_bundle(tiny.bundle), sizes, "qnn")
    near = Changed(session, "logits", lambda v: v + 0.02 * np.abs(v).max())
    hold_against_cpu(near, lambda: open_session(path), path, read_bundle(tiny.bundle), sizes, "qnn")


@pytest.mark.parametrize(
    "change", [lambda v: -v, lambda v: v * 0, lambda v: v * np.nan, lambda v: v.ravel()[::-1].reshape(v.shape)]
)
@pytest.mark.parametrize("name", ["logits", "activations", "gradients"])
def test_other_results_are_an_error(name, change, tiny):
    path = tiny.bundle / "explain.onnx"
    wrong = Changed(open_session(path), name, change)
    said = rf"^qnn,cpu gives other {name} for explain\.onnx than the CPU, apart by .* size .*; use the cpu"
    with pytest.raises(ProviderError, match=said):
        hold_against_cpu(wrong, lambda: open_session(path), path, read_bundle(tiny.bundle), {}, "qnn,cpu")


def test_distance():
    one = np.array([3.0, 4.0])
    assert distance(one, one) == 0
    assert distance(one * 1.1, one) == pytest.approx(0.1)
    assert distance(np.zeros(2), np.zeros(2)) == 0
    assert distance(one, np.zeros(2)) == 1
    assert distance(np.array([np.nan, 4.0]), one) > 1


def test_all_but_the_tried_providers_are_compared():
    assert {row.short for row in PROVIDERS if not row.compared} == {"cpu", "cuda", "tensorrt"}


def test_a_network_that_the_npu_gets_wrong_is_refused(tmp_path, capfd):
    """Qualcomm's provider 2.7 reads beside the picture where a Conv is padded by as much as its kernel is wide."""
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        pytest.skip("needs the wheel of onnxruntime_qnn")
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[3] * 4),
        helper.make_node("Relu", ["c1"], ["layer"]),
        helper.make_node("GlobalAveragePool", ["layer"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["out"]),
    ]
    weights = {"w1": rng.standard_normal((8, 3, 3, 3)), "w2": rng.standard_normal((8, 5))}
    graph = helper.make_graph(
        nodes,
        "padded",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 24, 32])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "padded.onnx")
    export_model(tmp_path / "padded.onnx", tmp_path / "padded.fcam", layer="layer", preprocessing="unit")
    with pytest.raises(ProviderError, match=r"^qnn gives other .* for explain\.onnx than the CPU"):
        Explainer(tmp_path / "padded.fcam", providers=["qnn"])
