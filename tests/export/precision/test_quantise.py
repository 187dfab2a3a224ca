"""The score graph in int8, beside an explain graph that stays as it is."""

import collections
import math

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ImageError, ModelError, UsageError
from fusioncam.export import check, export_model, export_torch
from fusioncam.export.canonical import canonicalize
from fusioncam.export.precision import quantise
from fusioncam.export.precision.calibration_batches import MASKS, masked_pictures
from fusioncam.export.random_pictures import pictures
from fusioncam.forms import form_of
from fusioncam.manifest import EXPLAIN_GRAPH, SCORE_GRAPH, WEIGHTS, read_bundle

FORM = form_of("classify", 5, None)


def optimised(path, folder):
    """Operators and how often onnxruntime runs them."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return collections.Counter(
        n.op_type for n in onnx.load(folder / "optimised.onnx", load_external_data=False).graph.node
    )


def test_only_the_score_graph_is_int8(quantised, run, photos):
    _, full, small = quantised
    manifest = read_bundle(small)
    assert (manifest.precision, manifest.score_precision) == ("float32", "int8")
    explain = [onnx.load(bundle / EXPLAIN_GRAPH, load_external_data=False).graph for bundle in (full, small)]
    assert explain[0] == explain[1]
    model = onnx.load(small / SCORE_GRAPH)
    onnx.checker.check_model(model, full_check=True)
    for values, shape in ((model.graph.input, ["N", 3, 24, 32]), (model.graph.output, ["N", 5])):
        (value,) = values
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        assert [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim] == shape
    images = np.stack(list(photos(manifest.preprocessing, 5, seed=1)))
    exact, given = (run(b / SCORE_GRAPH, {"image": images})["logits"] for b in (full, small))
    assert 0 < np.abs(given - exact).max() < 0.1 * np.abs(exact).max()
    alone = np.concatenate([run(small / SCORE_GRAPH, {"image": i[None]})["logits"] for i in images])
    np.testing.assert_array_equal(alone, given)


def test_onnxruntime_computes_in_int8(quantised, tmp_path):
    operators = optimised(quantised[2] / SCORE_GRAPH, tmp_path)
    assert operators["QLinearConv"] == 2
    assert operators["QGemm"] == 1
    assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "Relu"} & {*operators}


@pytest.mark.parametrize("name", ["resnet_basic", "mobilenet_v2", "densenet"])
def test_architectures(name, networks, tmp_path, photos):
    torch = pytest.importorskip("torch")
    network = networks[name]
    for precision, calibrate in ((None, None), ("int8", photos)):
        bundle = tmp_path / f"{precision}.fcam"
        example = torch.zeros(1, 3, *network.size)
        export_torch(network.make(), example, bundle, precision=precision, calibrate=calibrate)
    assert [f for f in check(tmp_path / "int8.fcam") if not f.ok] == []
    operators = optimised(tmp_path / "int8.fcam" / SCORE_GRAPH, tmp_path)
    assert operators["QLinearConv"] > 3 * (operators["Conv"] + operators["FusedConv"])


def test_weights_grow_by_a_quarter(networks, tmp_path, photos):
    torch = pytest.importorskip("torch")
    network = networks["mobilenet_v2"]
    sizes = []
    for precision, calibrate in ((None, None), ("int8", photos)):
        bundle = tmp_path / f"{precision}.fcam"
        example = torch.zeros(1, 3, *network.size)
        export_torch(network.make(), example, bundle, precision=precision, calibrate=calibrate)
        sizes.append((bundle / WEIGHTS).stat().st_size)
    model = onnx.load(tmp_path / "int8.fcam" / SCORE_GRAPH)
    assert {i.data_type for i in model.graph.initializer if len(i.dims) == 4} == {TensorProto.INT8}
    small = sum(math.prod(i.dims) for i in model.graph.initializer if i.data_type == TensorProto.INT8)
    large = [numpy_helper.to_array(i) for i in onnx.load(tmp_path / "None.fcam" / SCORE_GRAPH).graph.initializer]
    assert small >= sum(w.size for w in large if w.ndim == 4)
    assert sizes[1] - sizes[0] < 0.3 * sizes[0]


def test_biases_are_corrected(classifier, tmp_path, monkeypatch, run, photos):
    """Most weights of the first convolution are just under half a step, and become zeros."""
    model, errors = classifier(size=(24, 32)), []
    weights = np.full((4, 3, 3, 3), 0.45 / 127, np.float32)
    weights[:, 0, 0, 0] = 1
    tensor = next(i for i in model.graph.initializer if i.name == "w1")
    tensor.CopyFrom(numpy_helper.from_array(weights, "w1"))
    onnx.save(model, tmp_path / "half.onnx")
    export_model(tmp_path / "half.onnx", tmp_path / "full.fcam", preprocessing={"preset": "unit"})
    explain = ir.external_data.load_to_model(ir.load(tmp_path / "full.fcam" / EXPLAIN_GRAPH))
    prep = read_bundle(tmp_path / "full.fcam").preprocessing
    images = np.concatenate(list(masked_pictures(explain, FORM, photos(prep))))
    exact = run(tmp_path / "full.fcam" / SCORE_GRAPH, {"image": images})["logits"]
    for correct in (quantise._correct_biases, lambda *_: None):
        monkeypatch.setattr(quantise, "_correct_biases", correct)
        options = {"preprocessing": {"preset": "unit"}, "precision": "int8", "calibrate": photos}
        export_model(tmp_path / "half.onnx", tmp_path / "t.fcam", **options)
        given = run(tmp_path / "t.fcam" / SCORE_GRAPH, {"image": images})["logits"]
        errors.append(np.abs((given - exact).mean(axis=0)).max())
    assert errors[0] < 0.5 * errors[1]


@pytest.mark.parametrize("factor", [0.02, 50])
def test_photos_of_another_scale(factor, tiny, tmp_path, photos, raw):
    with pytest.raises(
        ModelError, match=r"^in int8 the model's outputs are off by .* calibrate on more photos"
    ) as caught:
        export_model(
            tiny(size=(24, 32)),
            tmp_path / "t.fcam",
            preprocessing=raw,
            precision="int8",
            calibrate=lambda prep: photos(prep, factor=factor),
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "t.fcam").exists()


def test_check_fails_for_photos_of_another_scale(tiny, tmp_path, monkeypatch, photos, raw):
    """In a bundle that was made in spite of its logits."""
    monkeypatch.setattr("fusioncam.export.assembly.compare_logits", lambda *_: [])
    bundle = tmp_path / "t.fcam"
    wrong = {"precision": "int8", "calibrate": lambda prep: photos(prep, factor=0.02)}
    export_model(tiny(size=(24, 32)), bundle, preprocessing=raw, **wrong)
    failed = [f.what for f in check(bundle, photos=lambda prep: photos(prep, seed=5)) if not f.ok]
    assert f"logits of {SCORE_GRAPH} are near those of {EXPLAIN_GRAPH}" in failed
    assert any(what.startswith("Score-CAM by int8 scores") for what in failed)


def test_each_photo_is_seen_under_masks(quantised, photos):
    explain = ir.external_data.load_to_model(ir.load(quantised[1] / EXPLAIN_GRAPH))
    given = list(photos(read_bundle(quantised[1]).preprocessing, 2))
    batches = list(masked_pictures(explain, FORM, given))
    assert len(batches) == 2
    for x, batch in zip(given, batches, strict=True):
        assert 2 < len(batch) <= MASKS + 2
        np.testing.assert_array_equal(batch[:2], [x, 0 * x])
        kept = batch[2:] / np.where(x == 0, 1, x)
        assert kept.min() >= -1e-6
        assert kept.max() <= 1 + 1e-6
        assert all(k.max() > 0.5 for k in kept)


def test_what_cannot_be_had_is_refused(tiny, tmp_path, photos):
    export_model(tiny(), tmp_path / "i.fcam", precision="int8", calibrate=photos)
    for source, options, why in (
        (tiny(), {"precision": "int8"}, "int8 needs photos to calibrate on, .*; add --calibrate FOLDER"),
        (tiny(), {"calibrate": photos}, "photos to calibrate on are for int8 only; leave --calibrate out, .*"),
        (tiny(), {"precision": "fp16", "calibrate": photos}, "photos to calibrate on are for int8 only; .*"),
        (tiny(), {"precision": "int8", "calibrate": lambda _: []}, "there is no photo; .*"),
        (
            tiny("half.onnx", dtype=TensorProto.FLOAT16),
            {"precision": "int8", "calibrate": photos},
            "only a float32 model can be brought to int8, this one is quantised, float16 or float64; .*",
        ),
        (
            tmp_path / "i.fcam" / SCORE_GRAPH,
            {"precision": "int8", "calibrate": photos},
            "only a float32 model can be brought to int8, this one is quantised, .*",
        ),
    ):
        with pytest.raises(UsageError, match=f"^{why}$"):
            export_model(source, tmp_path / "t.fcam", **options)
        assert not (tmp_path / "t.fcam").exists()


@pytest.mark.parametrize(
    ("photo", "why"),
    [
        (np.zeros((3, 5, 5), np.float32), r"has shape \(3, 5, 5\); preprocess it to \(3, 8, 6\)"),
        (np.full((3, 8, 6), np.nan, np.float32), "holds NaN or infinity; leave it out"),
    ],
)
def test_photos_that_do_not_fit(photo, why, tiny, tmp_path):
    with pytest.raises(ImageError, match=f"^a photo {why}$"):
        export_model(tiny(), tmp_path / "t.fcam", precision="int8", calibrate=lambda _: [photo])
    assert not (tmp_path / "t.fcam").exists()


def test_nothing_to_quantise(tmp_path):
    """As a layer goes before a weighted operator, only one that the quantiser does not know can be left."""
    nodes = [
        helper.make_node("Sigmoid", ["image"], ["layer"]),
        helper.make_node("GlobalAveragePool", ["layer"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["scores"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 8, 8])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3])
    graph = helper.make_graph(nodes, "none", [image], [scores])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, tmp_path / "none.onnx")
    model = canonicalize(tmp_path / "none.onnx").model
    with pytest.raises(UsageError, match=r"^the model has no convolution or matrix product to bring to int8; "):
        quantise.in_int8(model, lambda: [np.zeros((1, 3, 8, 8), np.float32)], (0, 1))


def test_the_patchwork_stays_within_the_range_of_pixels(quantised):
    manifest = read_bundle(quantised[2])
    low, high = manifest.preprocessing.extremes
    images = pictures(manifest, 3)
    assert low <= images.min() < images.max() <= high
    model = onnx.load(quantised[2] / SCORE_GRAPH)
    first = next(n for n in model.graph.node if n.input[0] == "image")
    scale = next(numpy_helper.to_array(i) for i in model.graph.initializer if i.name == first.input[1])
    assert scale == pytest.approx((high - low) / 255, rel=1e-5)
