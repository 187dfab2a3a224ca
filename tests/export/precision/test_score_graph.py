"""The score graph in float16, beside an explain graph that stays as it is."""

import json
import re
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model, export_torch
from fusioncam.export.canonical import canonicalize
from fusioncam.export.precision.drift import Finding
from fusioncam.export.precision.score_graph import refusal
from fusioncam.manifest import EXPLAIN_GRAPH, MANIFEST, SCORE_GRAPH, read_bundle, sha256, signed

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture
def edited(classifier, tmp_path):
    """Saves the classifier made by hand after `edit(graph)`."""

    def save(edit, **options):
        model = classifier(**options)
        edit(model.graph)
        onnx.save(model, tmp_path / "edited.onnx")
        return tmp_path / "edited.onnx"

    return save


def between(graph, *nodes):
    """Put nodes, which read `r1` and write `new`, between the first Relu and the second Conv."""
    at = next(i for i, n in enumerate(graph.node) if "r1" in n.input)
    graph.node[at].input[0] = "new"
    for node in reversed(nodes):
        graph.node.insert(at, node)


def constant(graph, name, value):
    graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))


def scaled(graph, name, factor):
    tensor = next(i for i in graph.initializer if i.name == name)
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))


def types(path):
    """Types of the inputs, of the outputs and of the constants of a graph, as sets."""
    graph = onnx.load(path).graph
    tensors = [[v.type.tensor_type.elem_type for v in values] for values in (graph.input, graph.output)]
    return (*map(set, tensors), {i.data_type for i in graph.initializer})


def test_only_the_score_graph_is_float16(tiny, run, tmp_path):
    source = tiny()
    export_model(source, tmp_path / "full.fcam")
    manifest = export_model(source, tmp_path / "half.fcam", precision="fp16")
    assert (manifest.precision, manifest.score_precision) == ("float32", "float16")
    assert read_bundle(tmp_path / "half.fcam") == manifest
    explain = [
        onnx.load(tmp_path / name / EXPLAIN_GRAPH, load_external_data=False).graph
        for name in ("full.fcam", "half.fcam")
    ]
    assert explain[0] == explain[1]
    inputs, outputs, constants = types(tmp_path / "half.fcam" / SCORE_GRAPH)
    assert (inputs, outputs) == ({HALF}, {FLOAT})
    assert constants <= {HALF, TensorProto.INT64}
    onnx.checker.check_model(onnx.load(tmp_path / "half.fcam" / SCORE_GRAPH), full_check=True)
    images = np.random.default_rng(0).random((5, 3, 8, 6), np.float32)
    full = run(tmp_path / "full.fcam" / SCORE_GRAPH, {"image": images})["logits"]
    half = run(tmp_path / "half.fcam" / SCORE_GRAPH, {"image": images.astype(np.float16)})["logits"]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, full, rtol=0, atol=5e-3 * np.abs(full).max())
    assert (half != full).any()


@pytest.mark.parametrize("options", [{"channels_last": True}, {"batch": 1}, {"keep_axes": True, "opset": 9}])
def test_any_form(options, tiny, tmp_path):
    manifest = export_model(tiny(**options), tmp_path / "t.fcam", precision="fp16")
    assert manifest.score_precision == "float16"
    assert types(tmp_path / "t.fcam" / SCORE_GRAPH)[:2] == ({HALF}, {FLOAT})
    assert [f for f in check(tmp_path / "t.fcam") if not f.ok] == []


@pytest.mark.parametrize("precision", [None, "fp32"])
def test_float32_is_as_the_source(precision, tiny, tmp_path):
    manifest = export_model(tiny(), tmp_path / "t.fcam", precision=precision)
    assert (manifest.precision, manifest.score_precision) == ("float32", "float32")
    assert HALF not in set.union(*types(tmp_path / "t.fcam" / SCORE_GRAPH))


@pytest.mark.parametrize("precision", [None, "fp16"])
def test_a_float16_source_stays_as_it_is(precision, tiny, tmp_path):
    manifest = export_model(tiny(dtype=HALF), tmp_path / "t.fcam", precision=precision)
    assert (manifest.precision, manifest.score_precision) == ("float16", "float16")
    assert types(tmp_path / "t.fcam" / SCORE_GRAPH)[:2] == ({FLOAT}, {FLOAT})
    assert [f.ok for f in check(tmp_path / "t.fcam")] == [True] * 5


def test_a_torch_module(networks, tmp_path):
    torch = pytest.importorskip("torch")
    network = networks["mobilenet_v3"]
    manifest = export_torch(network.make(), torch.zeros(1, 3, *network.size), tmp_path / "t.fcam", precision="fp16")
    assert manifest.score_precision == "float16"
    assert [f for f in check(tmp_path / "t.fcam") if not f.ok] == []


def quantise(graph):
    constant(graph, "scale", np.float32(0.05))
    constant(graph, "zero", np.int8(0))
    between(
        graph,
        helper.make_node("QuantizeLinear", ["r1", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["new"]),
    )


def test_what_cannot_be_had_is_refused(tiny, edited, tmp_path):
    for source, precision, why in (
        (tiny(), "half", "^no precision 'half'; use fp32, fp16 or int8$"),
        (tiny("half.onnx", dtype=HALF), "fp32", "^the model is float16, .*; export its float32 source$"),
        (edited(quantise), "fp16", "^only a float32 model .*; export it without --precision fp16$"),
    ):
        with pytest.raises(UsageError, match=why):
            export_model(source, tmp_path / "t.fcam", precision=precision)
        assert not (tmp_path / "t.fcam").exists()


def too_large_a_weight(graph):
    scaled(graph, "w1", 1e6)
    scaled(graph, "w2", 1e-6)


def too_small_weights(graph):
    scaled(graph, "w3", 3e-8)
    scaled(graph, "b3", 3e-8)


def too_large_in_between(graph):
    for name, factor in (("w1", 1e3), ("w2", 1e3), ("w3", 1e-4)):
        scaled(graph, name, factor)


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        (too_large_a_weight, r"not finite: tensor 'w1' holds [12]\.\de\+06, float16 ends at 65504"),
        (too_small_weights, r"off by [\d.]+ \(0\.1 is allowed\): some of its values .* need more digits"),
        (too_large_in_between, "not finite: some of its values grow beyond what float16 holds"),
    ],
)
def test_a_model_that_does_not_bear_float16(edit, why, edited, tmp_path):
    source = edited(edit)
    export_model(source, tmp_path / "full.fcam")
    with pytest.raises(ModelError, match=f"^in float16 the model's outputs are {why}.*; export it without") as caught:
        export_model(source, tmp_path / "t.fcam", precision="fp16")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t.fcam").exists()


def test_maps_decide_what_outputs_leave_open(edited, tmp_path):
    """Weights that lose some digits make the same map; sums that lose what tells pictures apart do not."""
    source = edited(lambda graph: (scaled(graph, "w3", 2e-6), scaled(graph, "b3", 2e-6)))
    export_model(source, tmp_path / "good.fcam", precision="fp16")
    findings = {f.what: f for f in check(tmp_path / "good.fcam")}
    assert all(f.ok for f in findings.values())
    assert findings[f"output of {SCORE_GRAPH} equals the source's"].error > 5e-3

    def far_from_zero(graph):
        bias = next(i for i in graph.initializer if i.name == "b3")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(3000), "b3"))

    with pytest.raises(
        ModelError, match=r"^in float16 Score-CAM's maps drift: r on random patches, is .* is allowed\): .* more digits"
    ):
        export_model(edited(far_from_zero), tmp_path / "bad.fcam", precision="fp16")
    assert not (tmp_path / "bad.fcam").exists()


@pytest.mark.parametrize("error", [0.0301, 0.0300004, 0.1])
def test_what_decides_is_told_with_its_digits(error, tiny):
    model = canonicalize(tiny()).model
    said = str(refusal(model, "float16", Finding("output of score.onnx equals the source's", error, 0.03)))
    off, limit = re.search(r"off by (\S+) \((\S+) is allowed\)", said).groups()
    assert float(off) > float(limit) == 0.03


@pytest.mark.parametrize(
    ("factor", "why"), [(25000, "some of its values grow beyond"), (50000, "tensor 'w3' holds 1.0e.05, float16 ends")]
)
def test_a_sigmoid_does_not_hide_what_overflows(factor, why, edited, tmp_path):
    source = edited(lambda graph: scaled(graph, "w3", factor), ending=["Sigmoid"])
    export_model(source, tmp_path / "full.fcam")
    with pytest.raises(ModelError, match=f"^in float16 the model's outputs are not finite: {why}"):
        export_model(source, tmp_path / "t.fcam", precision="fp16")


def test_check_sees_what_a_sigmoid_hides(edited, tmp_path):
    """In a bundle whose score graph was changed after the export."""
    bundle = tmp_path / "t.fcam"
    export_model(edited(lambda graph: scaled(graph, "w3", 5000), ending=["Sigmoid"]), bundle, precision="fp16")
    graph = onnx.load(bundle / SCORE_GRAPH)
    tensor = next(i for i in graph.graph.initializer if i.name == "w3")
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(6), "w3"))
    onnx.save(graph, bundle / SCORE_GRAPH)
    manifest = json.loads((bundle / MANIFEST).read_text())
    manifest["files"][SCORE_GRAPH] = sha256(bundle / SCORE_GRAPH)
    (bundle / MANIFEST).write_bytes(signed(json.dumps(manifest).encode()))
    assert f"output of {SCORE_GRAPH} equals the source's" in [f.what for f in check(bundle) if not f.ok]


def bounds(graph):
    """A bound that means none."""
    constant(graph, "low", np.float32(0))
    constant(graph, "high", np.finfo(np.float32).max)
    between(graph, helper.make_node("Clip", ["r1", "low", "high"], ["new"]))


def resizes(graph):
    """Two resizings with the same scales, which are float32 whatever the picture is, and are read elsewhere too."""
    constant(graph, "scales", np.array([1, 1, 1.1, 1.1], np.float32))
    half_pixel = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    between(
        graph,
        helper.make_node("Resize", ["r1", "", "scales"], ["big"], **half_pixel),
        helper.make_node("Resize", ["big", "", "scales"], ["bigger"], **half_pixel),
        helper.make_node("Transpose", ["bigger"], ["last"], perm=[0, 2, 3, 1]),
        helper.make_node("Mul", ["last", "scales"], ["gained"]),
        helper.make_node("Transpose", ["gained"], ["new"], perm=[0, 3, 1, 2]),
    )


def maxima(graph):
    """Operators that the converter would hold back in float32, with inputs in common."""
    constant(graph, "some", np.float32(0.3))
    between(
        graph,
        helper.make_node("Max", ["r1", "some"], ["a"]),
        helper.make_node("Min", ["r1", "some"], ["b"]),
        helper.make_node("Sub", ["a", "b"], ["new"]),
    )


def casts(graph):
    """A mask by way of integers, and a stretch in float64."""
    constant(graph, "some", np.float32(0.3))
    between(
        graph,
        helper.make_node("Greater", ["r1", "some"], ["where"]),
        helper.make_node("Cast", ["where"], ["mask"], to=FLOAT),
        helper.make_node("Cast", ["r1"], ["exact"], to=TensorProto.DOUBLE),
        helper.make_node("Sqrt", ["exact"], ["root"]),
        helper.make_node("Cast", ["root"], ["back"], to=FLOAT),
        helper.make_node("Mul", ["mask", "back"], ["new"]),
    )


@pytest.mark.parametrize("edit", [bounds, resizes, maxima, casts])
def test_operators_that_need_care(edit, edited, tmp_path):
    export_model(edited(edit), tmp_path / "t.fcam", precision="fp16")
    assert [f for f in check(tmp_path / "t.fcam") if not f.ok] == []
    onnx.checker.check_model(onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH), full_check=True)


def test_scales_keep_their_digits(edited, tmp_path):
    export_model(edited(resizes), tmp_path / "t.fcam", precision="fp16")
    graph = onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH).graph
    constants = {i.name: i for i in graph.initializer}
    scales = [constants[n.input[2]] for n in graph.node if n.op_type == "Resize"]
    assert [s.data_type for s in scales] == [FLOAT] * 2


def test_the_path_of_modules_stays_as_it_was(tiny, tmp_path):
    before = list(sys.path)
    export_model(tiny(), tmp_path / "t.fcam", precision="fp16")
    assert sys.path == before


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
def test_a_manifest_that_says_nothing_of_the_scores(dtype, tiny, tmp_path):
    manifest = export_model(tiny(dtype=dtype), tmp_path / "t.fcam")
    content = json.loads((tmp_path / "t.fcam" / MANIFEST).read_text())
    del content["score_precision"]
    (tmp_path / "t.fcam" / MANIFEST).write_bytes(signed(json.dumps(content).encode()))
    assert read_bundle(tmp_path / "t.fcam") == manifest
