"""Graphs that end in a search for the best boxes are cut above it: at the boxes and scores of all anchors."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper

from fusioncam.errors import ModelError
from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize
from fusioncam.kernels.reference import probabilities

CLASSES, CELLS = 3, 16
CORNERS = np.array([(8 * x, 8 * y, 8 * x + 8, 8 * y + 8) for y in range(4) for x in range(4)], np.float32)
HEAD = """
h = Conv <strides = [2, 2]> (image, w0)
r = Relu (h)
z = Conv <strides = [4, 4]> (r, w, b)
flat = Reshape (z, rows_last)
rows = Transpose <perm = [0, 2, 1]> (flat)
raw, numbers = Split <axis = 2> (rows, four_three)
tanh = Tanh (raw)
moved = Mul (tanh, two_pixels)
boxes = Add (moved, corners)
scores = Sigmoid (numbers)
"""
TURNED = "by_class = Transpose <perm = [0, 2, 1]> (scores)"
NMS = "NonMaxSuppression (boxes, by_class, most, iou, conf)"
# The end of a search by TopK: classes, rows of the boxes, and all in one tensor.
PICKED = """class = Mod (places, i3) row = Div (places, i3) column = Unsqueeze (row, i2s)
        row4 = Expand (column, to_four)
        kept = GatherElements <axis = 1> ({boxes}, row4) score = Unsqueeze (values, i2s)
        number = Cast <to = 1> (class) numbers3 = Unsqueeze (number, i2s)
        y = Concat <axis = 2> (kept, score, numbers3)"""
# A search for each class, as TensorFlow's: rows of y1, x1, y2, x2 in shares of the input.
EACH_CLASS = "".join(
    f"""s{c} = Gather <axis = 2> (scores, i{c}) t{c} = Unsqueeze (s{c}, i1s)
    f{c} = NonMaxSuppression (shares, t{c}, most, iou, conf) a{c} = Gather <axis = 1> (f{c}, i2)
    flat{c} = Squeeze (shares, i0s) b{c} = Gather (flat{c}, a{c}) v{c} = Squeeze (s{c}, i0s) p{c} = Gather (v{c}, a{c})
    """
    for c in range(CLASSES)
)
# Each form: the nodes below the boxes and scores, its outputs, and what the manifest says.
FORMS = {
    "dense": (
        f"""{TURNED} found = {NMS} at = Gather <axis = 1> (found, i2) class = Gather <axis = 1> (found, i1)
        flat_boxes = Squeeze (boxes, i0s) out_boxes = Gather (flat_boxes, at)
        out_scores = GatherND (by_class, found)""",
        "float[K, 4] out_boxes, float[K] out_scores, int64[K] class",
        {"nms": True, "multi_label": True, "iou": 0.5, "conf": 0.3},
    ),
    "class offsets": (
        """best = ReduceMax <keepdims = 1> (scores, i2s) class = ArgMax <axis = 2, keepdims = 1> (scores)
        number = Cast <to = 1> (class) far = Mul (number, hundred) apart = Add (boxes, far)
        turned = Transpose <perm = [0, 2, 1]> (best)
        found = NonMaxSuppression (apart, turned, most, iou, conf)
        picture = Gather <axis = 1> (found, i0) at = Gather <axis = 1> (found, i2)
        pairs = Gather <axis = 1> (found, zero_two) of_boxes = GatherND (boxes, pairs)
        of_class = GatherND (number, pairs) of_scores = GatherND (best, pairs) x = Cast <to = 1> (picture)
        first = Unsqueeze (x, i1s) y = Concat <axis = 1> (first, of_boxes, of_class, of_scores)""",
        "float[K, 7] y",
        {"nms": True, "multi_label": False, "class_wise": True, "iou": 0.5, "conf": 0.3},
    ),
    "overlaps of all": (  # as Ultralytics searches for rotated boxes; what stands for an overlap does not matter
        """best = ReduceMax <keepdims = 0> (scores, i2s) of_one = Gather (best, i0) of_all = Gather (boxes, i0)
        likely = Greater (of_one, conf) mask = Cast <to = 1> (likely) masked = Mul (of_one, mask)
        top, at = TopK (masked, sixteen) sorted = Gather (of_all, at) turned = Transpose (sorted)
        alike = MatMul (sorted, turned) upper = Trilu (alike, i1) over = Greater (upper, iou)
        counted = Cast <to = 7> (over)
        before = ReduceSum <keepdims = 0> (counted, i0s) free = LessOrEqual (before, i0) found = NonZero (free)
        places = Transpose (found) each = Squeeze (places, i1s) kept = Slice (each, i0s, ten, i0s)
        out_boxes = Gather (sorted, kept) out_scores = Gather (top, kept)""",
        "float[K, 4] out_boxes, float[K] out_scores",
        {"nms": True, "multi_label": False, "class_wise": False, "iou": 0.5, "conf": 0.3, "most": 10},
    ),
    "sorted before and after": (
        """best = ReduceMax <keepdims = 0> (scores, i2s) top, order = TopK (best, eight)
        index = Unsqueeze (order, i2s) index4 = Expand (index, to_four) index3 = Expand (index, to_three)
        some = GatherElements <axis = 1> (boxes, index4) of_some = GatherElements <axis = 1> (scores, index3)
        by_class = Transpose <perm = [0, 2, 1]> (of_some)
        found = NonMaxSuppression (some, by_class, most, iou, conf)
        at = Gather <axis = 1> (found, i2) flat_boxes = Squeeze (some, i0s) kept = Gather (flat_boxes, at)
        kept_scores = GatherND (by_class, found) column = Unsqueeze (kept_scores, i1s)
        dets = Concat <axis = 1> (kept, column) many = Shape (kept_scores)
        sorted, sorting = TopK (kept_scores, many) y = Gather (dets, sorting)""",
        "float[K, 5] y",
        {"nms": True, "multi_label": True, "iou": 0.5, "conf": 0.3},
    ),
    "end to end": (
        """best = ReduceMax <keepdims = 0> (scores, i2s) top, order = TopK (best, eight)
        index = Unsqueeze (order, i2s) index4 = Expand (index, to_four) index3 = Expand (index, to_three)
        some = GatherElements <axis = 1> (boxes, index4) of_some = GatherElements <axis = 1> (scores, index3)
        one_row = Flatten (of_some) values, places = TopK (one_row, eight)
        """
        + PICKED.format(boxes="some"),
        "float[1, 8, 6] y",
        {"nms": False, "multi_label": True, "most": 8},
    ),
    "RT-DETR of Ultralytics": (
        """centred = MatMul (boxes, to_centres) one_row = Flatten (scores) values, places = TopK (one_row, eight)
        """
        + PICKED.format(boxes="centred"),
        "float[1, 8, 6] y",
        {"nms": False, "multi_label": True, "most": 8},
    ),
    "for each class": (
        f"""turned = Gather <axis = 2> (boxes, y_first) shares = Div (turned, side) {EACH_CLASS}
        all_boxes = Concat <axis = 0> (b0, b1, b2) all_scores = Concat <axis = 0> (p0, p1, p2)
        many = Shape (all_scores) out_scores, order = TopK (all_scores, many) out_boxes = Gather (all_boxes, order)""",
        "float[K, 4] out_boxes, float[K] out_scores",
        {"nms": True, "multi_label": True, "class_wise": True, "iou": 0.5, "conf": 0.3},
    ),
    "EfficientNMS_TRT": (
        """count, kept, of_kept, class = TRT.EfficientNMS_TRT <score_threshold = 0.3, iou_threshold = 0.5,
        max_output_boxes = 20, background_class = -1, score_activation = 0, box_coding = 0> (boxes, scores)""",
        "int32[1, 1] count, float[1, 20, 4] kept, float[1, 20] of_kept, int32[1, 20] class",
        {"nms": True, "multi_label": True, "class_wise": True, "iou": 0.5, "conf": 0.3, "most": 20},
    ),
    "EfficientNMS_TRT of YOLOv7": (
        """centred = MatMul (boxes, to_centres) count, kept, of_kept, class = TRT.EfficientNMS_TRT <box_coding = 1,
        score_threshold = 0.35, iou_threshold = 0.65, max_output_boxes = 100> (centred, scores)""",
        "int32[1, 1] count, float[1, 100, 4] kept, float[1, 100] of_kept, int32[1, 100] class",
        {"nms": True, "multi_label": True, "class_wise": True, "iou": 0.65, "conf": 0.35, "most": 100},
    ),
    "EfficientNMS_TRT of logits": (
        """count, kept, of_kept, class = TRT.EfficientNMS_TRT <score_threshold = 0.3, iou_threshold = 0.6,
        class_agnostic = 1, score_activation = 1> (boxes, numbers)""",
        "int32[1, 1] count, float[1, 20, 4] kept, float[1, 20] of_kept, int32[1, 20] class",
        {"nms": True, "multi_label": False, "class_wise": False, "iou": 0.6, "conf": 0.3, "most": 100},
    ),
    "BatchedNMSDynamic_TRT": (
        """four = Unsqueeze (boxes, i2s) count, kept, of_kept, class = TRT.BatchedNMSDynamic_TRT <shareLocation = 1,
        backgroundLabelId = 0, numClasses = 3, topK = 100, keepTopK = 20, scoreThreshold = 0.3, iouThreshold = 0.5,
        isNormalized = 0, clipBoxes = 0> (four, scores)""",
        "int32[1, 1] count, float[1, 20, 4] kept, float[1, 20] of_kept, float[1, 20] class",
        {"nms": True, "class_wise": True, "background": 0, "iou": 0.5, "conf": 0.3, "most": 20},
    ),
    "TRTBatchedNMS": (
        """four = Unsqueeze (boxes, i2s) dets, labels = TRT.TRTBatchedNMS <share_location = 1, background_label_id = -1,
        num_classes = 3, topk = 100, keep_topk = 20, score_threshold = 0.3, iou_threshold = 0.5, is_normalized = 0,
        clip_boxes = 0> (four, scores)""",
        "float[1, 20, 5] dets, int32[1, 20] labels",
        {"nms": True, "class_wise": True, "iou": 0.5, "conf": 0.3, "most": 20},
    ),
}
CONSTANTS = {
    **{"rows_last": [1, -1, CELLS], "four_three": [4, CLASSES], "to_four": [1, 8, 4], "to_three": [1, 8, CLASSES]},
    **{"i0": 0, "i1": 1, "i2": 2, "i3": 3, "i0s": [0], "i1s": [1], "i2s": [2], "zero_two": [0, 2]},
    **{"most": [20], "eight": [8], "ten": [10], "sixteen": [CELLS], "y_first": [1, 0, 3, 2]},
}
TO_CENTRES = np.kron([[0.5, -1], [0.5, 1]], np.eye(2)) / 32  # of corners, as shares of the picture
FLOATS = {
    "two_pixels": 2.0,
    "to_centres": TO_CENTRES,
    "corners": CORNERS[None],
    "hundred": 100.0,
    "side": 32.0,
    "iou": [0.5],
    "conf": [0.3],
}


def saved(tmp_path, body, outputs):
    """Write a detector: HEAD, then what searches; return its file, and that of the head alone."""
    rng = np.random.default_rng(3)
    weights = {"w0": rng.normal(size=(6, 3, 2, 2)) / 3, "w": rng.normal(size=(4 + CLASSES, 6, 4, 4)) / 5}
    weights["b"] = rng.normal(size=4 + CLASSES)
    tensors = {n: np.array(v, np.int64) for n, v in CONSTANTS.items()}
    tensors |= {n: np.array(v, np.float32) for n, v in {**FLOATS, **weights}.items()}
    files = []
    for name, nodes, given in (
        ("d", HEAD + body, outputs),
        ("head", HEAD, "float[1, 16, 4] boxes, float[1, 16, 3] scores"),
    ):
        model = onnx.parser.parse_model(
            f'<ir_version: 8, opset_import: ["": 18, "TRT": 1]> d (float[1,3,32,32] image) => ({given}) {{ {nodes} }}'
        )
        model.producer_name = "tf2onnx" if "shares" in nodes else ""
        if "to_centres" in nodes:
            onnx.helper.set_model_props(model, {"task": "detect"})
        read = {n for node in model.graph.node for n in node.input}
        model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in tensors.items() if n in read)
        files.append(tmp_path / f"{name}.onnx")
        onnx.save(model, files[-1])
    return files


@pytest.mark.parametrize("form", FORMS)
def test_forms(form, tmp_path):
    body, outputs, expected = FORMS[form]
    source, head = saved(tmp_path, body, outputs)
    picture = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    boxes, scores = onnxruntime.InferenceSession(str(head)).run(None, {"image": picture})
    read = canonicalize(source)
    assert read.task == "detect"
    assert read.ending == "sigmoid"
    found = {name: getattr(read.detector, name) for name in expected}
    assert found == pytest.approx(expected)
    detections = onnxruntime.InferenceSession(ir.to_proto(read.model).SerializeToString()).run(
        None, {"image": picture}
    )[0]
    np.testing.assert_allclose(detections[..., :4], boxes, atol=1e-4)
    np.testing.assert_allclose(probabilities(detections[..., 4:], "sigmoid"), scores, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "outputs", "words"),
    [
        (
            f"{TURNED} found = {NMS} out_scores = GatherND (by_class, found)",
            "float[K] out_scores",
            r"\(NonMaxSuppression\) searches for the best boxes, and its boxes cannot be followed to the outputs",
        ),
        (
            f"""{TURNED} found = {NMS} at = Gather <axis = 1> (found, i2) some = Gather <axis = 1> (boxes, at)
            of_some = Gather <axis = 1> (numbers, at) twice = Mul (of_some, of_some) second = Sigmoid (twice)
            t = Transpose <perm = [0, 2, 1]> (second) f = NonMaxSuppression (some, t, most, iou, conf)
            a = Gather <axis = 1> (f, i2) flat_boxes = Squeeze (some, i0s) out_boxes = Gather (flat_boxes, a)
            out_scores = GatherND (t, f)""",
            "float[K, 4] out_boxes, float[K] out_scores",
            r"\(NonMaxSuppression\) proposes boxes for a second stage",
        ),
        (
            "count, kept, of_kept, class = TRT.EfficientNMS_TRT <background_class = 2> (boxes, scores)",
            "int32[1, 1] count, float[1, 20, 4] kept, float[1, 20] of_kept, int32[1, 20] class",
            r"\(EfficientNMS_TRT\) has class 2 as its background, not the first one",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_by_its_node(body, outputs, words, tmp_path):
    source, _ = saved(tmp_path, body, outputs)
    with pytest.raises(ModelError, match=words):
        canonicalize(source)


def test_a_cut_detector_passes_the_check(tmp_path):
    body, outputs, _ = FORMS["sorted before and after"]
    source, _ = saved(tmp_path, body, outputs)
    manifest = export_model(source, tmp_path / "d.fcam")
    assert (manifest.task, manifest.reader, manifest.source.tensors) == ("detect", "cut-xyxy", ("boxes", "scores"))
    assert [f.what for f in check(tmp_path / "d.fcam") if not f.ok] == []
