"""Nodes that a provider leaves to the CPU: an error that names them, or a warning, or what the user asked for."""

import importlib.util
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fusioncam import Explainer
from fusioncam.errors import ProviderError
from fusioncam.runtime.providers.table import CPU, CUDA, SHORT, TENSORRT
from fusioncam.runtime.sessions import open as opening
from fusioncam.runtime.sessions.open import open_session
from fusioncam.runtime.sessions.placement import PlacedNode, left_to_cpu, listed_nodes
from fusioncam.runtime.sessions.run import run


@pytest.fixture
def qnn():
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        pytest.skip("needs the wheel of onnxruntime_qnn")


@pytest.fixture
def graph(tmp_path):
    """A network of which Qualcomm's NPU runs all but `lonely`: it has no Erf for whole numbers of 64 bits, say."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Erf", ["a"], ["b"], name="lonely"),
        helper.make_node("Sigmoid", ["b"], ["y"], name="last"),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 4, 4])] for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *ends), opset_imports=[helper.make_opsetid("", 17)], ir_version=9
    )
    onnx.save(model, tmp_path / "graph.onnx")
    return tmp_path / "graph.onnx"


def test_a_node_that_is_left_over_is_an_error_that_names_it(qnn, graph, capfd):
    with pytest.raises(ProviderError) as caught:
        open_session(graph, ["qnn"], sizes={"N": 1})
    assert str(caught.value) == (
        "of the 3 nodes of graph.onnx, qnn leaves 1 to the CPU: Erf lonely; allow it with --allow-cpu, or name the "
        f"provider cpu as well; `fusioncam inspect {graph.parent} --providers qnn` says who runs what"
    )
    assert capfd.readouterr() == ("", "")


def test_with_leave_it_is_a_warning(qnn, graph):
    said = r"of the 3 nodes of graph\.onnx, qnn leaves 1 to the CPU: Erf lonely"
    with pytest.warns(RuntimeWarning, match=said):
        session = open_session(graph, ["qnn"], sizes={"N": 1}, allow_cpu=True)
    x = np.linspace(-2, 2, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    (y,) = run(session, ["y"], {"x": x})
    assert np.abs(y - run(open_session(graph), ["y"], {"x": x})[0]).max() < 2e-3


def test_who_names_the_cpu_gets_no_warning(qnn, graph, recwarn):
    open_session(graph, ["qnn", "cpu"], sizes={"N": 1})
    assert not recwarn.list


def test_score_graphs_run_on_the_npu_and_every_node_there(qnn, tiny):
    session = open_session(tiny.bundle / "score.onnx", ["qnn"], sizes={"N": 2})
    assert session.get_inputs()[0].shape == [2, 3, 24, 32]
    pictures = np.random.default_rng(0).normal(size=(2, 3, 24, 32)).astype(np.float32)
    (logits,) = run(session, ["logits"], {"image": pictures})
    (expected,) = run(open_session(tiny.bundle / "score.onnx"), ["logits"], {"image": pictures})
    assert np.abs(logits - expected).max() < 5e-3 * np.ptp(expected)
    assert opening.placed_nodes(session)
    assert {node.provider for node in opening.placed_nodes(session)} == {SHORT["qnn"].name}


@pytest.mark.parametrize("providers", [["qnn"], ["qnn", "cpu"]])
def test_a_plugin_that_cannot_begin_is_an_error_whoever_may_help(qnn, graph, providers, capfd):
    """onnxruntime logs it, and opens the session on the CPU."""
    providers = [("qnn", {"backend_path": "/none.so"}), *providers[1:]]
    said = "^the qnn provider cannot be used: QNN SetupBackend failed Unable to load backend, .*; check its options"
    with pytest.raises(ProviderError, match=said):
        open_session(graph, providers, sizes={"N": 1}, allow_cpu=True)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("bundle", ["tiny_int8", "symmetric_int8"])
def test_int8_runs_on_the_npu_around_zero_or_not(qnn, request, bundle):
    score = request.getfixturevalue(bundle) / "score.onnx"
    session = open_session(score, ["qnn", "cpu"], sizes={"N": 1})  # the last Gemm has float logits: it stays on the CPU
    quantised = {n.operator for n in opening.placed_nodes(session) if n.provider == SHORT["qnn"].name}
    assert quantised >= {"QuantizeLinear", "DequantizeLinear", "Conv", "Gemm"}
    assert "QuantizeLinear" not in {n.operator for n in opening.placed_nodes(session) if n.provider == CPU}
    picture = np.random.default_rng(0).normal(size=(1, 3, 24, 32)).astype(np.float32)
    (logits,) = run(session, ["logits"], {"image": picture})
    (expected,) = run(open_session(score), ["logits"], {"image": picture})
    assert np.corrcoef(logits[0], expected[0])[0, 1] > 0.99


def test_maps_of_every_kind_are_those_of_the_cpu(qnn, tiny, pictures):
    methods = ["fusion_cam", "grad_cam", "score_cam", "recipro_cam"]
    on_npu, on_cpu = (
        Explainer(tiny.bundle, providers, methods).explain(pictures[0], 1) for providers in (["qnn"], ["cpu"])
    )
    for method in methods:
        assert np.corrcoef(on_npu.maps[method].ravel(), on_cpu.maps[method].ravel())[0, 1] > 0.999


def test_maps_of_an_int8_bundle_are_those_of_the_cpu(qnn, tiny_int8, pictures):
    """Some of its passes go through the explain graph, which has a fixed batch of one."""
    on_npu, on_cpu = (Explainer(tiny_int8, p).explain(pictures[0], 1) for p in (["qnn", "cpu"], ["cpu"]))
    for method, map_ in on_cpu.maps.items():
        assert np.corrcoef(on_npu.maps[method].ravel(), map_.ravel())[0, 1] > 0.99


NODES = [PlacedNode("a", "Conv", CUDA), PlacedNode("b", "Gather", CPU), PlacedNode("c", "Erf", CPU)]


def test_shape_computations_that_onnxruntime_keeps_on_the_cpu_are_no_fault_of_cuda():
    assert left_to_cpu(NODES, [SHORT["cuda"]]) == NODES[2:]
    assert left_to_cpu(NODES, [SHORT["tensorrt"], SHORT["cuda"]]) == NODES[2:]
    assert left_to_cpu(NODES, [SHORT["tensorrt"]]) == NODES[1:]
    assert left_to_cpu(NODES, [SHORT["qnn"]]) == NODES[1:]


def test_many_nodes_are_counted():
    nodes = [PlacedNode(f"n{i}", "Conv", CPU) for i in range(5)]
    assert listed_nodes(nodes) == "Conv n0, Conv n1, Conv n2, 2 more"
    assert listed_nodes([PlacedNode("", "Conv", CPU)]) == "Conv"


@pytest.fixture
def sessions_of(monkeypatch):
    """Sessions that are only pretended, of which nodes run on some providers."""

    def make(*nodes):
        raw = {n: SimpleNamespace(name=n.name, op_type=n.operator) for n in nodes}
        parts = [SimpleNamespace(ep_name=n.provider, get_nodes=lambda n=n: [raw[n]]) for n in nodes]
        session = SimpleNamespace(get_provider_graph_assignment_info=lambda: parts)
        monkeypatch.setattr(opening, "create_session", lambda *_: (session, ""))

    return make


def test_a_provider_that_runs_nothing_at_all_is_an_error(sessions_of, tiny):
    sessions_of(*(PlacedNode(f"n{i}", "Conv", CPU) for i in range(4)))
    said = "of the 4 nodes of score.onnx, cuda leaves 4 to the CPU: Conv n0, Conv n1, Conv n2, 1 more; allow it with"
    with pytest.raises(ProviderError, match=said):
        open_session(tiny.bundle / "score.onnx", ["cuda"])


def test_cuda_after_tensorrt_takes_what_is_left(sessions_of, tiny):
    sessions_of(PlacedNode("a", "Conv", TENSORRT), PlacedNode("b", "Erf", CUDA), PlacedNode("c", "Shape", CPU))
    open_session(tiny.bundle / "score.onnx", ["tensorrt", "cuda"])
