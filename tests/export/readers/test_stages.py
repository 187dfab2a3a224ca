"""A detector of two stages as torchvision exports them: proposals are constants, the second stage is explained."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from fusioncam import Box, Explainer
from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model

CELLS, CLASSES, SIDE = 16, 4, 32
# Anchors of two sizes, so that boxes of both are pooled from both levels.
ANCHORS = np.array(
    [(8 * x - r, 8 * y - r, 8 * x + 8 + r, 8 * y + 8 + r) for y in range(4) for x in range(4) for r in [4 * (x % 2)]]
)
DETECTOR = """
<ir_version: 8, opset_import: ["": 18]>
stages (float[3, 32, 32] image) => (float[K, 4] out_boxes, int64[K] out_labels, float[K] out_scores) {
    plain = Sub (image, mean)  x = Unsqueeze (plain, i0s)
    c0 = Conv <strides = [4, 4]> (x, w0)  f0 = Relu (c0)
    c1 = Conv <strides = [2, 2]> (f0, w1)  f1 = Relu (c1)
    fine = Conv (f0, u0)  coarse = Conv (f1, u1)

    o = Conv (coarse, wo)  objects = Reshape (o, one_row)  likely = Sigmoid (objects)
    q = Conv (coarse, wq)  sides = Reshape (q, four_rows)  rows = Transpose <perm = [1, 0]> (sides)
    moves = Tanh (rows)  proposed = Add (moves, anchors)  batch = Unsqueeze (proposed, i0s)
    found = NonMaxSuppression (batch, likely, hundred, half)
    places = Gather <axis = 1> (found, i2)  first = Slice (places, i0s, ten, i0s)
    proposals = Gather (proposed, first)

    left = Gather <axis = 1> (proposals, i0)  right = Gather <axis = 1> (proposals, i2)
    width = Sub (right, left)  is_big = Greater (width, twelve)  is_small = Not (is_big)
    of_small = NonZero (is_small)  at_fine = Squeeze (of_small, i0s)
    of_big = NonZero (is_big)  at_coarse = Squeeze (of_big, i0s)
    boxes_fine = Gather (proposals, at_fine)  shape_fine = Shape (at_fine)
    owner_fine = ConstantOfShape <value = int64[1] {0}> (shape_fine)
    pooled_fine = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2, spatial_scale = 0.25>
        (fine, boxes_fine, owner_fine)
    boxes_coarse = Gather (proposals, at_coarse)  shape_coarse = Shape (at_coarse)
    owner_coarse = ConstantOfShape <value = int64[1] {0}> (shape_coarse)
    pooled_coarse = RoiAlign <output_height = 2, output_width = 2, sampling_ratio = 2, spatial_scale = 0.125>
        (coarse, boxes_coarse, owner_coarse)
    count = Shape (first)  whole = Concat <axis = 0> (count, six_two_two)  none = ConstantOfShape (whole)
    column_fine = Reshape (at_fine, column)  like_fine = Shape (pooled_fine)
    index_fine = Expand (column_fine, like_fine)
    some = ScatterElements <axis = 0> (none, index_fine, pooled_fine)
    column_coarse = Reshape (at_coarse, column)  like_coarse = Shape (pooled_coarse)
    index_coarse = Expand (column_coarse, like_coarse)
    pooled = ScatterElements <axis = 0> (some, index_coarse, pooled_coarse)

    flat = Flatten (pooled)  h = Gemm (flat, v)  hidden = Relu (h)
    logits = Gemm (hidden, vc, vb)  deltas = Gemm (hidden, vr)
    prob = Softmax <axis = -1> (logits)
    of_classes = Reshape (deltas, by_class)  shifts = Tanh (of_classes)
    base = Unsqueeze (proposals, i1s)  decoded = Add (base, shifts)
    own = Slice (decoded, i1s, end, i1s)  boxes = Reshape (own, rows_of_four)
    of_own = Slice (prob, i1s, end, i1s)  scores = Reshape (of_own, last)
    like = Shape (of_own)  numbers = Expand (classes, like)  labels = Reshape (numbers, last)
    above = Greater (scores, least)  some_at = NonZero (above)  kept = Squeeze (some_at, i0s)
    s_boxes = Gather (boxes, kept)  s_scores = Gather (scores, kept)  s_labels = Gather (labels, kept)
    start = Gather <axis = 1> (s_boxes, i0)  stop = Gather <axis = 1> (s_boxes, i2)  long = Sub (stop, start)
    is_wide = GreaterOrEqual (long, narrow)  wide_at = NonZero (is_wide)  wide = Squeeze (wide_at, i0s)
    k_boxes = Gather (s_boxes, wide)  k_scores = Gather (s_scores, wide)  k_labels = Gather (s_labels, wide)
    far = Cast <to = 1> (k_labels)  offset = Mul (far, apart)  offsets = Unsqueeze (offset, i1s)
    moved = Add (k_boxes, offsets)  m = Unsqueeze (moved, i0s)  s = Unsqueeze (k_scores, two_in_front)
    best = NonMaxSuppression (m, s, hundred, fifth)
    best_at = Gather <axis = 1> (best, i2)  top = Slice (best_at, i0s, twenty, i0s)
    out_boxes = Gather (k_boxes, top)  out_scores = Gather (k_scores, top)  out_labels = Gather (k_labels, top)
}
"""
CONSTANTS = {
    **{"i0": 0, "i2": 2, "i0s": [0], "i1s": [1], "end": [10**9], "last": [-1], "ten": [10], "twenty": [20]},
    **{"one_row": [1, 1, CELLS], "four_rows": [4, CELLS], "hundred": [100], "six_two_two": [6, 2, 2]},
    **{"column": [-1, 1, 1, 1], "by_class": [-1, CLASSES, 4], "rows_of_four": [-1, 4], "classes": [[1, 2, 3]]},
    **{"two_in_front": [0, 1]},
}
FLOATS = {
    "half": [0.5],
    "fifth": [0.2],
    "twelve": 12.0,
    "least": 0.05,
    "narrow": 7.5,
    "apart": 100.0,
    "anchors": ANCHORS,
}
SHAPES = {
    **{"w0": (6, 3, 4, 4), "w1": (6, 6, 2, 2), "u0": (6, 6, 1, 1), "u1": (6, 6, 1, 1), "wo": (1, 6, 1, 1)},
    **{"wq": (4, 6, 1, 1), "v": (24, 16), "vc": (16, CLASSES), "vb": (CLASSES,), "vr": (16, 4 * CLASSES)},
}


def saved(path, text=DETECTOR):
    """Write the detector with random weights."""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(5)
    tensors = {n: np.array(v, np.int64) for n, v in CONSTANTS.items()}
    tensors |= {n: np.array(v, np.float32) for n, v in FLOATS.items()}
    tensors["mean"] = np.full((3, 1, 1), 0.45, np.float32)
    for name, shape in SHAPES.items():
        inputs = shape[0] if name[0] == "v" else np.prod(shape[1:])
        tensors[name] = (2 * rng.normal(size=shape) / np.sqrt(inputs)).astype(np.float32)
    read = {n for node in model.graph.node for n in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items() if n in read)
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """Return a detector of two stages and its bundle."""
    source = saved(tmp_path_factory.mktemp("stages") / "d.onnx")
    bundle = source.with_suffix(".fcam")
    export_model(source, bundle)
    return source, bundle


def test_detections_are_those_of_the_graphs_own_end(stages):
    source, bundle = stages
    alone, explainer = onnxruntime.InferenceSession(str(source)), Explainer(bundle, methods=("grad_cam",))
    duplicates = 0
    for seed in range(3):
        picture = np.random.default_rng(seed).random((3, SIDE, SIDE), np.float32)
        boxes, labels, scores = alone.run(None, {"image": picture})
        found = explainer.detections(picture)
        assert len(scores) > 5
        duplicates += len(explainer.detections(picture, iou=1.0)) - len(scores)
        assert [d.class_index for d in found] == labels.tolist()
        np.testing.assert_allclose([d.score for d in found], scores, atol=1e-5)
        np.testing.assert_allclose([d.box_on_input for d in found], boxes, atol=1e-4)
    assert duplicates  # the last search is not idle


def test_the_manifest_says_one_picture_and_both_levels(stages):
    manifest = Explainer(stages[1], methods=("grad_cam",)).manifest
    assert manifest.one_by_one
    assert manifest.source.channel_axis == 0
    assert manifest.preprocessing.std == (1, 1, 1)  # the graph subtracts the mean itself
    assert {level.name for level in manifest.layers} == {"fine", "coarse"}
    detector = manifest.detector
    assert (detector.anchors, detector.background, detector.conf, detector.most) == (10 * 3, 0, 0.05, 20)
    assert manifest.ending == "softmax"


def test_gradient_and_scores_pass_the_check(stages):
    """Proposals are held: central differences of the layer agree with the gradient."""
    assert [(f.what, f.error) for f in check(stages[1]) if not f.ok] == []


def test_a_detection_is_explained_by_the_level_its_box_is_pooled_from(stages):
    explainer = Explainer(stages[1], methods=("fusion_cam", "grad_cam"))
    picture = np.random.default_rng(0).random((3, SIDE, SIDE), np.float32)
    found = explainer.detections(picture)
    widths = [d.box_on_input[2] - d.box_on_input[0] for d in found]
    for target, level in ((found[np.argmin(widths)], "fine"), (found[np.argmax(widths)], "coarse")):
        explained = explainer.explain(picture, target=Box(target.class_index, target.box))
        assert explained.layers == (level,)
        assert explained.detection.anchor == target.anchor
        assert explained.maps["fusion_cam"].max() == 1


def test_axes_that_the_picture_decides_on_have_names_of_their_own(stages):
    """Where onnxruntime believes two such axes to be equally long, or fixed, it shares their memory."""
    graph = onnx.load(stages[1] / "explain.onnx", load_external_data=False).graph
    shapes = {v.name: v.type.tensor_type.shape.dim for v in graph.value_info}
    found = [shapes[n] for n in ("of_small", "of_big", "proposals", "pooled_fine", "pooled_coarse")]
    names = [[d.dim_param for d in dims if d.dim_param] for dims in found]
    assert [len(of_tensor) for of_tensor in names] == [1] * 5
    assert len({name for of_tensor in names for name in of_tensor}) == 5


def test_options_fit_or_are_refused(stages, tmp_path):
    manifest = export_model(stages[0], tmp_path / "plain.fcam", gradient=False, conf=0.3)
    assert ({level.name for level in manifest.layers}, manifest.detector.conf) == ({"fine", "coarse"}, 0.3)
    for option, value in {"precision": "fp16", "size": "any"}.items():
        with pytest.raises(UsageError, match=f"--{option}.* is not for detectors that propose boxes"):
            export_model(stages[0], tmp_path / "other.fcam", **{option: value})


def test_more_proposals_than_nothing_limits_are_refused(tmp_path):
    endless = DETECTOR.replace("first = Slice (places, i0s, ten, i0s)", "first = Identity (places)")
    with pytest.raises(ModelError, match="proposes boxes for a second stage, and nothing limits their number"):
        export_model(saved(tmp_path / "d.onnx", endless), tmp_path / "d.fcam")
