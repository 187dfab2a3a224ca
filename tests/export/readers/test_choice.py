"""Each output is read as what it is, or as the user says."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize

UP = 'u = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (z, roi, double)'
NORMALISED = "n = ReduceL2 <keepdims = 1> (e, class_axis) m = Max (n, least) y = Div (e, m)"
LAST = "t = Transpose <perm = [0, 2, 3, 1]> (z)"
TOKENS = "t = Reshape (f, tokens) s = Transpose <perm = [0, 2, 1]> (t)"

# The operators that make the output y, options of the export, and (task, reader, classes, size of the maps, ending).
READ = {
    "stride 2": ("y = Identity (z)", {}, ("segment", "maps", 4, (6, 8), "logits")),
    "full size": (f"{UP} y = Identity (u)", {}, ("segment", "maps", 4, (12, 16), "logits")),
    "softmax": (f"{UP} y = Softmax <axis = 1> (u)", {}, ("segment", "maps", 4, (12, 16), "softmax")),
    "log softmax": ("y = LogSoftmax <axis = -3> (z)", {}, ("segment", "maps", 4, (6, 8), "softmax")),
    "sigmoid": ("y = Sigmoid (z)", {}, ("segment", "maps", 4, (6, 8), "sigmoid")),
    "said sigmoid": ("y = Identity (z)", {"ending": "sigmoid"}, ("segment", "maps", 4, (6, 8), "sigmoid")),
    "best class": (f"{UP} y = ArgMax <axis = 1> (u)", {}, ("segment", "maps", 4, (12, 16), "logits")),
    "best class, flat": (
        "s = Softmax <axis = 1> (z) y = ArgMax <axis = 1, keepdims = 0> (s)",
        {},
        ("segment", "maps", 4, (6, 8), "softmax"),
    ),
    "channels last": (
        f"{LAST} y = Softmax <axis = 3> (t)",
        {},
        ("segment", "maps-last", 4, (6, 8), "softmax"),
    ),
    "softmax before the transpose": (
        "s = Softmax <axis = 1> (z) y = Transpose <perm = [0, 2, 3, 1]> (s)",
        {},
        ("segment", "maps-last", 4, (6, 8), "softmax"),
    ),
    "heat maps": ("y = Identity (z)", {"task": "value"}, ("value", "maps", 4, (6, 8), "value")),
    "said value": ("y = Sigmoid (z)", {"ending": "value"}, ("value", "maps", 4, (6, 8), "value")),
    "mean of maps": ("y = Identity (z)", {"task": "embed"}, ("embed", "mean-map", 4, None, "value")),
    "said embedding": ("y = Identity (e)", {"task": "embed"}, ("embed", "vector", 7, None, "value")),
    "normalised": (NORMALISED, {}, ("embed", "vector", 7, None, "value")),
    "normalised, but classes": (NORMALISED, {"task": "classify"}, ("classify", "vector", 7, None, "logits")),
    "mean of tokens": (f"{TOKENS} y = Identity (s)", {"task": "embed"}, ("embed", "mean-tokens", 6, None, "value")),
    "class token": (
        f"{TOKENS} k = ReduceMean (s, class_axis) y = Concat <axis = 1> (k, s)",
        {"task": "embed", "batch": 1},
        ("embed", "cls-token", 6, None, "value"),
    ),
    "classes": ("y = Identity (e)", {}, ("classify", "vector", 7, None, "logits")),
    "values": ("y = Identity (e)", {"task": "value"}, ("value", "vector", 7, None, "value")),
}
INTEGER = {"best class", "best class, flat"}


def saved(dense, tmp_path, text, name, batch="N", **kept):
    source = dense.save(tmp_path / "m.onnx", text, kinds={"y": TensorProto.INT64} if name in INTEGER else None)
    if batch != "N":
        model = onnx.load(source)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        onnx.save(model, source)
    return source, kept


@pytest.mark.parametrize("name", READ)
def test_it_is_read_and_passes_the_check(name, dense, tmp_path):
    text, options, expected = READ[name]
    source, options = saved(dense, tmp_path, text, name, **options)
    manifest = export_model(source, tmp_path / "m.fcam", **options)
    found = manifest.task, manifest.reader, manifest.classes, manifest.map_size, manifest.ending
    assert found == expected
    assert manifest.source.argmax == (name in INTEGER)
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []


BIG = 'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (s, roi, double)'
PROBABLE = {
    "softmax": (f"s = Softmax <axis = 1> (z) {BIG}", {}, ("softmax", "out_of_reach")),
    "sigmoid": (f"s = Sigmoid (z) {BIG}", {}, ("sigmoid", "out_of_reach")),
    "written out": ("m = Neg (z) p = Exp (m) q = Add (p, n1) y = Reciprocal (q)", {}, ("logits", "doubtful")),
    "said": (
        "m = Neg (z) p = Exp (m) q = Add (p, n1) y = Reciprocal (q)",
        {"ending": "sigmoid"},
        ("sigmoid", "out_of_reach"),
    ),
    "logits": ("y = Identity (z)", {}, ("logits", "reached")),
}


@pytest.mark.parametrize("name", PROBABLE)
def test_probabilities_without_logits_are_told(name, dense, tmp_path, run):
    text, options, expected = PROBABLE[name]
    manifest = export_model(dense.save(tmp_path / "m.onnx", text), tmp_path / "m.fcam", **options)
    assert (manifest.ending, manifest.source.reach) == expected
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    if expected[1] == "out_of_reach":
        feeds = feeds_of(manifest)
        p = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(["y"], {"image": feeds["image"]})[0]
        logits = np.log(p) if expected[0] == "softmax" else np.log(p) - np.log1p(-p)
        found = run(tmp_path / "m.fcam" / "explain.onnx", feeds)["logits"]
        np.testing.assert_allclose(found, logits, atol=1e-4 * np.abs(logits).max())


ONE = {
    "logit": ("y = Identity (z)", "segment", "sigmoid", 2),
    "probability": ("y = Sigmoid (z)", "segment", "sigmoid", 2),
    "without axis": ("s = Sigmoid (z) y = Squeeze (s, class_axis)", "segment", "sigmoid", 2),
}


@pytest.mark.parametrize("name", ONE)
def test_one_map_speaks_both_ways(name, dense, tmp_path, run):
    text, task, ending, classes = ONE[name]
    source = dense.save(tmp_path / "m.onnx", text, classes=1)
    manifest = export_model(source, tmp_path / "m.fcam")
    assert (manifest.task, manifest.ending, manifest.classes, manifest.source.outputs) == (task, ending, classes, 1)
    logits = run(tmp_path / "m.fcam" / "explain.onnx", feeds_of(manifest))["logits"]
    assert abs(logits[:, 0] + logits[:, 1]).max() == 0
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []


def feeds_of(manifest):
    shape = manifest.preprocessing.channels, *manifest.preprocessing.size
    return {"image": np.random.default_rng(0).random((1, *shape), np.float32), **manifest.form.placeholders(1)}


# Outputs by name: the first is taken.
NAMED = {
    ("out", "aux"): "out = Identity (z) aux = Neg (z)",
    ("image_embeds", "last_hidden_state"): f"{TOKENS} image_embeds = Identity (e) last_hidden_state = Identity (s)",
    ("pooler_output", "last_hidden_state"): f"{TOKENS} pooler_output = Identity (e) last_hidden_state = Identity (s)",
    ("image_embeds", "pooler_output"): "image_embeds = Identity (e) pooler_output = Neg (e)",
}


@pytest.mark.parametrize("outputs", NAMED)
def test_of_several_outputs_one_is_known_by_its_name(outputs, dense, tmp_path):
    for order in (outputs, outputs[::-1]):
        found = canonicalize(dense.save(tmp_path / "m.onnx", NAMED[outputs], order))
        assert found.reading.name == outputs[0]
        assert found.task == ("segment" if outputs[0] == "out" else "embed")


def test_of_several_outputs_the_options_of_each_are_told(dense, tmp_path):
    source = dense.save(tmp_path / "m.onnx", "a = Identity (z) b = Identity (e)", ("a", "b"))
    with pytest.raises(UsageError) as caught:
        canonicalize(source)
    assert str(caught.value) == (
        "the model has several outputs; say which to explain with --scores NAME: "
        "'a' (N, 4, 6, 8): --reader maps (segment, value), maps-last (segment, value), mean-map (embed); "
        "'b' (N, 7): --reader vector (classify, value, embed)"
    )
    assert canonicalize(source, output="b").task == "classify"
    assert canonicalize(source, task="embed", reader="mean-map").reading.name == "a"
    assert canonicalize(source, task="segment").reading.name == "a"


def test_an_output_without_reader_is_told(dense, tmp_path):
    source = dense.save(tmp_path / "m.onnx", f"{TOKENS} y = Concat <axis = 1> (s, s, s)")
    with pytest.raises(ModelError) as caught:
        canonicalize(source)
    assert str(caught.value) == (
        "no reader takes the model's output by itself: 'y' (N, 144, 6): "
        "--reader map (segment, value), mean-tokens (embed), cls-token (embed), yolo-obb, yolo, "
        "rt-detr-joined, yolo-objectness, yolox-raw (detect)"
    )
    with pytest.raises(UsageError, match=r"^--task classify fits no output of the model: 'y' \(N, 144, 6\)"):
        canonicalize(source, task="classify")
    assert canonicalize(source, reader="mean-tokens").classes == 6


BAD = {
    "task": (
        {"task": "segmnt"},
        "no task 'segmnt'; did you mean 'segment'? Use classify, value, segment, embed or detect",
    ),
    "reader": ({"reader": "clstoken"}, "no reader 'clstoken'; did you mean 'cls-token'?"),
    "both": ({"task": "segment", "reader": "cls-token"}, "reader 'cls-token' is for --task embed, not for segment"),
    "ending": ({"task": "segment", "ending": "value"}, "--task segment and --ending value contradict each other"),
    "value": ({"task": "value", "ending": "sigmoid"}, "--task value and --ending sigmoid contradict each other"),
    "embed": ({"task": "embed", "ending": "softmax"}, "an embedding has no probabilities; leave --ending softmax out"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_request_is_told(name, dense, tmp_path):
    options, message = BAD[name]
    with pytest.raises(UsageError, match=message.replace("?", r"\?")):
        canonicalize(dense.save(tmp_path / "m.onnx", "y = Identity (z)"), **options)


def test_a_drawn_reader_goes_by_the_positions_of_pixels(dense, tmp_path):
    # Of (N, 6, 8, 4) either could be classes by shape alone where 6 x 8 and 8 x 4 look like the picture.
    source = dense.save(tmp_path / "m.onnx", "y = Transpose <perm = [0, 2, 3, 1]> (z)", classes=8)
    assert canonicalize(source).reading.reader_name == "maps-last"


RANKED = {
    "resized": ('u = Resize <mode = "nearest"> (a, roi, double) y = Cast <to = 7> (u)', TensorProto.INT64),
    "floats": ("y = Identity (a)", TensorProto.FLOAT),
    "bytes": ("b = Cast <to = 2> (a) y = Squeeze (b, class_axis)", TensorProto.UINT8),
}


@pytest.mark.parametrize("name", RANKED)
def test_numbers_of_classes_may_be_cast_but_not_changed(name, dense, tmp_path):
    text, kind = RANKED[name]
    text = f"n = ArgMax <axis = 1> (z) a = Cast <to = 1> (n) {text}"
    source = dense.save(tmp_path / "m.onnx", text, kinds={"y": kind})
    if name == "resized":
        with pytest.raises(ModelError, match="the model ends in ArgMax: it gives class numbers"):
            canonicalize(source)
    else:
        export_model(source, tmp_path / "m.fcam")
        assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []


def test_labels_of_an_embedding_are_refused(dense, tmp_path):
    source = dense.save(tmp_path / "m.onnx", NORMALISED)
    with pytest.raises(UsageError, match="an embedding has no classes to name; leave --labels out"):
        export_model(source, tmp_path / "m.fcam", labels=list("abcdefg"))
