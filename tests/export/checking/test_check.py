import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model
from fusioncam.export.random_pictures import pictures
from fusioncam.manifest import EXPLAIN_GRAPH, SCORE_GRAPH, read_bundle


def failures(bundle, **options):
    return [(f.what, f.error) for f in check(bundle, **options) if not f.ok]


def test_sound(bundle):
    findings = check(bundle)
    assert [f.ok for f in findings] == [True] * 5
    assert findings[-1].error < 1e-3


def rescale_gradient(factor):
    def edit(graph):
        output = next(n for n in graph.node if "gradients" in n.output)
        output.output[0] = "before"
        graph.initializer.append(numpy_helper.from_array(np.float32(factor), "factor"))
        graph.node.append(helper.make_node("Mul", ["before", "factor"], ["gradients"], "tampered"))

    return edit


@pytest.mark.parametrize("factor", [0, -1, 0.9, 1.1, np.nan])
def test_wrong_gradient(factor, bundle, change):
    change(bundle, EXPLAIN_GRAPH, rescale_gradient(factor))
    ((what, error),) = failures(bundle)
    assert what == "gradient agrees with central differences"
    assert np.isnan(error) if np.isnan(factor) else error > 0.02


@pytest.mark.parametrize("power", [3, 6.5])
def test_generalised_mean_pooling(power, classifier, tmp_path):
    """The mean of powers has a root, which is none of what differences could make negative."""
    model = classifier()
    numbers = {"least": 1e-6, "power": power, "root": 1 / power}
    model.graph.initializer.extend(numpy_helper.from_array(np.float32(v), k) for k, v in numbers.items())
    at, pool = next((i, n) for i, n in enumerate(model.graph.node) if n.op_type == "GlobalAveragePool")
    never = numpy_helper.from_array(np.float32([[[0]], [[-1e3]], [[0]], [[0]], [[0]], [[0]]]), "never")
    model.graph.initializer.append(never)
    nodes = [
        helper.make_node("Add", ["relu", "never"], ["shifted"]),  # a channel that is always off
        helper.make_node("Max", ["shifted", "least"], ["kept"]),
        helper.make_node("Pow", ["kept", "power"], ["powers"]),
        helper.make_node("GlobalAveragePool", ["powers"], ["mean"]),
        helper.make_node("Pow", ["mean", "root"], [pool.output[0]]),
    ]
    model.graph.node.remove(pool)
    for node in reversed(nodes):
        model.graph.node.insert(at, node)
    onnx.save(model, tmp_path / "gem.onnx")
    for layer in (None, "relu"):
        export_model(tmp_path / "gem.onnx", tmp_path / "g.fcam", layer=layer)
        assert not failures(tmp_path / "g.fcam")


def test_a_layer_that_is_always_zero(classifier, tmp_path):
    model = classifier()
    at, pool = next((i, n) for i, n in enumerate(model.graph.node) if n.op_type == "GlobalAveragePool")
    model.graph.node.insert(at, helper.make_node("Relu", ["negative"], ["off"]))
    model.graph.node.insert(at, helper.make_node("Neg", ["relu"], ["negative"]))
    pool.input[0] = "off"
    onnx.save(model, tmp_path / "off.onnx")
    export_model(tmp_path / "off.onnx", tmp_path / "o.fcam", layer="off")
    assert all(np.isfinite(f.error) for f in check(tmp_path / "o.fcam"))


def test_activations_far_smaller_than_the_scores(classifier, tmp_path):
    """They change the scores in the last digits: the differences must be longer than the activations."""
    model = classifier()
    for tensor in model.graph.initializer:
        factor = {"w2": 1e-6, "w3": 1e-1}.get(tensor.name, 1)
        tensor.CopyFrom(
            numpy_helper.from_array((factor * numpy_helper.to_array(tensor)).astype(np.float32), tensor.name)
        )
    onnx.save(model, tmp_path / "m.onnx")
    export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert not failures(tmp_path / "m.fcam")


@pytest.fixture
def quantised(classifier, tmp_path):
    """Bundle of a model whose tensors are rounded to 8 bits here and there, also through a Flatten; by its name."""
    model = classifier()
    weights = [numpy_helper.from_array(np.float32(0.05), "scale"), numpy_helper.from_array(np.int8(-128), "zero")]
    model.graph.initializer.extend(weights)
    for before, after in (("r1", ""), ("relu", ""), ("pool", "flat")):
        at, node = next((i, n) for i, n in enumerate(model.graph.node) if n.input[0] == before)
        rounded = helper.make_node("QuantizeLinear", [before, "scale", "zero"], [f"{before}_q"])
        node.input[0] = f"{before}_dq"
        model.graph.node.insert(at, rounded)
        if after:
            node.input[0], node.output[0] = f"{before}_q", "flat_q"
            model.graph.node.insert(
                at + 2, helper.make_node("DequantizeLinear", ["flat_q", *rounded.input[1:]], ["flat"])
            )
        else:
            back = helper.make_node("DequantizeLinear", [f"{before}_q", *rounded.input[1:]], [f"{before}_dq"])
            model.graph.node.insert(at + 1, back)
    onnx.save(model, tmp_path / "q.onnx")

    def bundle_by(layer):
        export_model(tmp_path / "q.onnx", tmp_path / "q.fcam", layer=layer)
        return tmp_path / "q.fcam"

    return bundle_by


@pytest.mark.parametrize("layer", ["r1", "r1_dq", "relu", "relu_dq", None])
def test_quantised(layer, quantised, change):
    bundle = quantised(layer)
    last = check(bundle)[-1]
    assert failures(bundle) == []
    assert last.what == "gradient agrees with central differences (rounding left out)"
    assert last.error < 1e-3
    change(bundle, EXPLAIN_GRAPH, rescale_gradient(0.9))
    assert [what for what, _ in failures(bundle)] == [last.what]


def test_gradient_of_another_class(bundle, change):
    def edit(graph):
        graph.initializer.append(numpy_helper.from_array(np.int64(1), "one"))
        top = next(n for n in graph.node if n.op_type == "ArgMax")
        top.output[0] = "real_top"
        at = list(graph.node).index(top)
        graph.node.insert(at + 1, helper.make_node("Sub", ["real_top", "one"], ["shifted"], "shift"))
        for node in graph.node:
            for i, name in enumerate(node.input):
                if name.startswith("fusioncam/ArgMax"):
                    node.input[i] = "shifted"

    change(bundle, EXPLAIN_GRAPH, edit)
    assert [what for what, _ in failures(bundle)] == ["gradient agrees with central differences"]


@pytest.mark.parametrize("name", [SCORE_GRAPH, EXPLAIN_GRAPH])
def test_changed_weights(name, bundle, change):
    def edit(graph):
        bias = next(i for i in graph.initializer if i.name == "b3")
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.3), "b3"))

    change(bundle, name, edit)
    assert f"output of {name} equals the source's" in [what for what, _ in failures(bundle)]


def test_other_source(bundle, tiny):
    other = tiny("other.onnx", ending=["Identity"])
    assert failures(bundle, source=other) == [("source is the one exported (sha256)", 1.0)]
    with pytest.raises(ModelError, match="has no input 'image': it is not the bundle's source"):
        check(bundle, tiny("third.onnx", names=["pixels", "a", "b", "c"]))


def test_source_of_another_form(bundle, tiny):
    with pytest.raises(ModelError, match="does not run as the bundle's source did"):
        check(bundle, tiny("other.onnx", size=(8, 8)))
    assert "output of score.onnx equals the source's" in [
        w for w, _ in failures(bundle, source=tiny("s.onnx", ending=["Softmax"]))
    ]


def test_source_is_gone(bundle, tmp_path):
    shutil.move(tmp_path / "tiny.onnx", tmp_path / "moved.onnx")
    with pytest.raises(UsageError, match="say where it is with --source"):
        check(bundle)
    assert failures(bundle, source=tmp_path / "moved.onnx") == []


def test_moved_together(bundle, tmp_path):
    (tmp_path / "there").mkdir()
    for name in ("tiny.onnx", "t.fcam"):
        shutil.move(tmp_path / name, tmp_path / "there" / name)
    assert failures(tmp_path / "there" / "t.fcam") == []


@pytest.mark.parametrize("layer", ["r1", "relu"])
def test_any_layer(layer, tiny, tmp_path):
    export_model(tiny(), tmp_path / "t.fcam", layer=layer)
    assert failures(tmp_path / "t.fcam") == []


def test_what_goes_past_the_layer_is_held(export_of, middle_of):
    for name in ("vit", "vit_gap", "resnet_basic", "swin"):
        for exported in (export_of(name), middle_of(name)):
            assert failures(exported.bundle) == [], name


def test_pictures_fill_the_range(bundle):
    manifest = read_bundle(bundle)
    images = pictures(manifest, 4)
    assert images.shape == (4, 3, 8, 6)
    assert images.dtype == np.float32
    pixels = images * np.reshape(manifest.preprocessing.std, (3, 1, 1)) + np.reshape(
        manifest.preprocessing.mean, (3, 1, 1)
    )
    assert -1e-5 < pixels.min() < 0.1
    assert 0.9 < pixels.max() < 1 + 1e-5


@pytest.fixture
def halved(tiny, tmp_path):
    """A bundle with scores in float16."""
    export_model(tiny(), tmp_path / "h.fcam", precision="fp16")
    return tmp_path / "h.fcam"


DRIFT = [f"{m}-CAM by float16 scores is that by exact ones: r on random patches" for m in ("Score", "Fusion")]


def test_drift_is_reported(halved):
    findings = check(halved)
    assert [f.ok for f in findings] == [True] * 7
    assert [f.what for f in findings[-2:]] == DRIFT
    assert all(1 - 1e-4 < f.error < 1 for f in findings[-2:])


@pytest.mark.parametrize("factor", [-1, 0, 3, np.nan])
def test_drift_is_found(factor, halved, change):
    def edit(graph):
        tensor = next(i for i in graph.initializer if i.name == "w3")
        assert tensor.data_type == onnx.TensorProto.FLOAT16
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float16(factor), "w3"))

    change(halved, SCORE_GRAPH, edit)
    assert [what for what, _ in failures(halved)] == [f"output of {SCORE_GRAPH} equals the source's", *DRIFT]


@pytest.mark.parametrize(("name", "noticed"), [(EXPLAIN_GRAPH, True), (SCORE_GRAPH, False)])
def test_each_graph_is_held_to_its_own_precision(name, noticed, halved, change):
    def edit(graph):
        bias = next(i for i in graph.initializer if i.name == "b3")
        values = numpy_helper.to_array(bias)
        bias.CopyFrom(numpy_helper.from_array((values * 1.01).astype(values.dtype), "b3"))

    change(halved, name, edit)
    assert [what for what, _ in failures(halved)] == [f"output of {name} equals the source's"] * noticed
