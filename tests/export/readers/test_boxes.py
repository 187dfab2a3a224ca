"""The boxes, scores and extras of each family of detectors are read, by metadata, by shapes or by name."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize

SIZE = HEIGHT, WIDTH = 32, 64
CELLS = 42  # of strides 8, 16 and 32
CONSTANTS = {f"n{n}": np.array([n]) for n in range(16)} | {"half": np.float32(0.5), "big": np.float32(100)}
SIZED = "c = Slice (z, n0, n4, n2) q = Sigmoid (c) b = Mul (q, big)"  # four numbers of a box, 0..100
JOINED = f"{SIZED} l = Slice (z, n4, n7, n2) p = Sigmoid (l)"
ENDS = "o = Slice (b, n0, n2, n2) d = Slice (b, n2, n4, n2) u = Add (o, d) e = Concat <axis = 2> (o, u)"  # two corners


def save(path, text, outputs, anchors=CELLS, columns=7, metadata=None):
    """Save a model whose numbers `z` (N, anchors, columns) go through the operators of a text."""
    rng = np.random.default_rng(0)
    arrays = {
        "w1": rng.normal(0, 0.5, (4, 3, 8, 8)), "w2": rng.normal(0, 0.3, (4 * 4 * 8, anchors * columns)),
        "w3": rng.normal(0, 0.5, (5, 4, 1, 1)), "w4": rng.normal(0, 0.5, (columns, 4, 4, 8)),
    }  # fmt: skip
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    arrays |= {**CONSTANTS, "rows": np.array([0, anchors, columns])}
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], strides=[8, 8]),
        helper.make_node("Tanh", ["c1"], ["f"]),
        helper.make_node("Flatten", ["f"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w2"], ["m"]),
        helper.make_node("Reshape", ["m", "rows"], ["z"]),
        *parser.parse_graph(f"g (float[N] z) => (float[N] y) {{ {text} }}").node,
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, *SIZE))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(arrays[name]), name) for name in sorted(used & arrays.keys())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def centred(b):
    return np.concatenate([b[..., :2] - b[..., 2:] / 2, b[..., :2] + b[..., 2:] / 2], axis=-1)


def ended(b):
    return np.concatenate([b[..., :2], b[..., :2] + b[..., 2:]], axis=-1)


def of_cells(z):
    places, strides = [], []
    for s in (8, 16, 32):
        for y in range(HEIGHT // s):
            places += [(x, y) for x in range(WIDTH // s)]
        strides += [s] * (HEIGHT // s * WIDTH // s)
    places, strides = np.array(places), np.array(strides)[:, None]
    return centred(np.concatenate([(z[..., :2] + places) * strides, np.exp(z[..., 2:4]) * strides], axis=-1))


def hull(b, angle):
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(*angle.shape, 2, 2)
    offsets = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2 * b[..., None, 2:]
    points = b[..., None, :2] + offsets @ turn.swapaxes(-1, -2)
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def names(count):
    return repr({n: f"class {n}" for n in range(count)})


# Operators, outputs, options of `save`, of the export, and: boxes, numbers of classes and extras by the numbers z.
FAMILIES = {
    "yolo": (
        f"{JOINED} t = Concat <axis = 2> (b, p) y = Transpose <perm = [0, 2, 1]> (t)", ["y"], {}, {},
        lambda z: (centred(100 * sigmoid(z[..., :4])), z[..., 4:], z[..., 7:]),
    ),
    "yolo-seg": (
        f"{JOINED} x = Slice (z, n7, n12, n2) t = Concat <axis = 2> (b, p, x) y = Transpose <perm = [0, 2, 1]> (t) "
        "protos = Conv (f, w3)", ["y", "protos"], {"columns": 12}, {},
        lambda z: (centred(100 * sigmoid(z[..., :4])), z[..., 4:7], z[..., 7:]),
    ),
    "yolo-pose": (
        f"{SIZED} l = Slice (z, n4, n5, n2) p = Sigmoid (l) x = Slice (z, n5, n7, n2) v = Slice (z, n7, n8, n2) "
        "s = Sigmoid (v) t = Concat <axis = 2> (b, p, x, s) y = Transpose <perm = [0, 2, 1]> (t)",
        ["y"], {"columns": 8, "metadata": {"task": "pose", "names": names(1)}}, {},
        lambda z: (centred(100 * sigmoid(z[..., :4])), z[..., 4:5], z[..., 5:]),
    ),
    "yolo-pose, which says where alone": (
        f"{SIZED} l = Slice (z, n4, n5, n2) p = Sigmoid (l) x = Slice (z, n5, n9, n2) "
        "t = Concat <axis = 2> (b, p, x) y = Transpose <perm = [0, 2, 1]> (t)",
        ["y"], {"columns": 9, "metadata": {"task": "pose", "names": names(1), "kpt_shape": "[2, 2]"}}, {},
        lambda z: (centred(100 * sigmoid(z[..., :4])), z[..., 4:5], z[..., 5:]),
    ),
    "yolo-obb": (
        f"{JOINED} x = Slice (z, n7, n8, n2) t = Concat <axis = 2> (b, p, x) y = Transpose <perm = [0, 2, 1]> (t)",
        ["y"], {"columns": 8, "metadata": {"task": "obb", "names": names(3)}}, {},
        lambda z: (
            hull(100 * sigmoid(z[..., :4]), z[..., 7]), z[..., 4:7],
            np.concatenate([100 * sigmoid(z[..., :4]), z[..., 7:]], axis=-1),
        ),
    ),
    "yolo-objectness": (
        f"{JOINED} y = Concat <axis = 2> (b, p)", ["y"], {"anchors": 3 * CELLS}, {},
        lambda z: (centred(100 * sigmoid(z[..., :4])), sigmoid(z[..., 4:5]) * sigmoid(z[..., 5:]), z[..., 7:]),
    ),
    "yolox-raw": (
        "r = Conv <strides = [4, 8]> (f, w4) s = Slice (z, n0, n4, n2) l = Slice (z, n4, n7, n2) p = Sigmoid (l) "
        "y = Concat <axis = 2> (s, p)", ["y"], {}, {"reader": "yolox-raw"},
        lambda z: (of_cells(z), sigmoid(z[..., 4:5]) * sigmoid(z[..., 5:]), z[..., 7:]),
    ),
    "detr": (
        "logits = Slice (z, n4, n9, n2) c = Slice (z, n0, n4, n2) pred_boxes = Sigmoid (c)", ["logits", "pred_boxes"],
        {"columns": 9, "anchors": 10}, {"config": {"model_type": "yolos", "id2label": dict.fromkeys("0123")}},
        lambda z: (centred(sigmoid(z[..., :4])) * (WIDTH, HEIGHT, WIDTH, HEIGHT), z[..., 4:], z[..., 9:]),
    ),
    "rt-detr": (
        "logits = Slice (z, n4, n8, n2) c = Slice (z, n0, n4, n2) pred_boxes = Sigmoid (c)", ["logits", "pred_boxes"],
        {"columns": 8, "anchors": 10}, {"config": {"model_type": "d_fine"}},
        lambda z: (centred(sigmoid(z[..., :4])) * (WIDTH, HEIGHT, WIDTH, HEIGHT), z[..., 4:], z[..., 8:]),
    ),
    "rt-detr-joined": (
        f"{JOINED} y = Concat <axis = 2> (q, p)", ["y"],
        {"anchors": 10, "metadata": {"task": "detect", "names": names(3)}}, {},
        lambda z: (centred(sigmoid(z[..., :4])) * (WIDTH, HEIGHT, WIDTH, HEIGHT), z[..., 4:], z[..., 7:]),
    ),
    "boxes-scores": (
        f"{JOINED} {ENDS} boxes = Identity (e) scores = Identity (p)", ["scores", "boxes"], {}, {},
        lambda z: (ended(100 * sigmoid(z[..., :4])), z[..., 4:], z[..., 7:]),
    ),
    "ssd": (
        f"c = Slice (z, n0, n4, n2) b = Sigmoid (c) {ENDS} boxes = Identity (e) l = Slice (z, n4, n7, n2) "
        "scores = Softmax <axis = 2> (l)",
        ["scores", "boxes"], {"anchors": 10}, {"reader": "ssd"},
        lambda z: (ended(sigmoid(z[..., :4])) * (WIDTH, HEIGHT, WIDTH, HEIGHT), z[..., 4:], z[..., 7:]),
    ),
}  # fmt: skip


@pytest.fixture
def numbers_of(run, tmp_path):
    def numbers(source, image):
        model = onnx.load(source)
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
        onnx.save(model, tmp_path / "z.onnx")
        return run(tmp_path / "z.onnx", {"image": image})["z"].astype(np.float64)

    return numbers


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_read_and_passes_the_check(family, tmp_path, run, numbers_of):
    text, outputs, made, options, expected = FAMILIES[family]
    source = save(tmp_path / "m.onnx", text, outputs, **made)
    options = dict(options)
    if (config := options.pop("config", None)) is not None:
        (tmp_path / "config.json").write_text(json.dumps(config))
    manifest = export_model(source, tmp_path / "m.fcam", **options)
    assert (manifest.task, manifest.reader) == ("detect", family.partition(",")[0])
    findings = check(tmp_path / "m.fcam")
    assert [f.what for f in findings if not f.ok] == []
    image = np.random.default_rng(1).random((2, 3, *SIZE), np.float32)
    feeds = {"image": image, **manifest.form.placeholders(2)}
    found = run(tmp_path / "m.fcam" / "explain.onnx", feeds)
    wanted = np.concatenate(expected(numbers_of(source, image)), axis=2)
    np.testing.assert_allclose(found["detections"], wanted, rtol=1e-3, atol=1e-3)
    assert manifest.detector.keypoints == {"keypoints": 2 if "," in family else 1}.get(manifest.detector.extra, 0)
    if family == "yolo-seg":
        prototypes = run(source, {"image": image})["protos"]
        np.testing.assert_allclose(found["prototypes"], prototypes, rtol=1e-4, atol=1e-5)
        assert manifest.detector.mask_size == prototypes.shape[2:]
        assert "prototypes of explain.onnx equal the source's" in [f.what for f in findings]
        weights = {
            v.name for v in onnx.load(tmp_path / "m.fcam" / "score.onnx", load_external_data=False).graph.initializer
        }
        assert "w2" in weights
        assert "w3" not in weights  # those of the prototypes


def test_boxes_and_numbers_that_nothing_explains_are_refused(tmp_path):
    text, outputs, made, _, _ = FAMILIES["detr"]
    source = save(tmp_path / "m.onnx", text, outputs, **made)
    with pytest.raises(
        UsageError, match=r"lay the model's config.json beside it, or say one of --reader detr \(a soft"
    ):
        canonicalize(source)
    assert canonicalize(source, reader="rt-detr").classes == 5
    assert canonicalize(source, reader="detr").classes == 4


def test_numbers_that_are_no_scores_are_refused(tmp_path):
    text, outputs, made, _, _ = FAMILIES["yolo-pose"]
    source = save(tmp_path / "m.onnx", text, outputs, columns=made["columns"])
    with pytest.raises(UsageError, match="reader 'yolo' takes 4 scores from 0 to 1, and 'y' has numbers from -"):
        canonicalize(source)


BAD = {
    "conf": ({"conf": 1.5}, "--conf is a number from 0 to 1, not 1.5"),
    "iou": ({"iou": -0.1}, "--iou is a number from 0 to 1, not -0.1"),
    "most": ({"most": 0}, "--most is a whole number from 1 on, not 0"),
}


def test_thresholds_are_the_users(tmp_path):
    source = save(tmp_path / "m.onnx", FAMILIES["yolo"][0], ["y"])
    for options, message in BAD.values():
        with pytest.raises(UsageError, match=message):
            export_model(source, tmp_path / "m.fcam", **options)
    found = export_model(source, tmp_path / "m.fcam", conf=0.4, iou=0.6, agnostic=True, most=20).detector
    assert (found.conf, found.iou, found.class_wise, found.most) == (0.4, 0.6, False, 20)


def test_thresholds_are_for_detectors(dense, tmp_path):
    with pytest.raises(UsageError, match="--conf is for detectors, and this model is none; leave it out"):
        export_model(dense.save(tmp_path / "m.onnx", "y = Identity (z)"), tmp_path / "m.fcam", conf=0.4)


OWN = '''
def read(op, outputs, size):
    """Boxes come in hundredths of the width, and after them the logits of classes."""
    rows = outputs["y"]
    boxes = op.Slice(rows, op.ints([0]), op.ints([4]), op.ints([2]))
    numbers = op.Slice(rows, op.ints([4]), op.ints([7]), op.ints([2]))
    scaled = op.Mul(boxes, op.constant(size[1] / 100, "float32"))
    return scaled, numbers, {"sides": "cxcywh", "ending": "sigmoid"}

def flat(op, outputs, size):
    return outputs["y"], outputs["y"]

def single(op, outputs, size):
    return outputs["y"]

def lost(op, outputs, size):
    return outputs["scores"], outputs["y"]

def saying(**meaning):
    return lambda op, outputs, size: (*read(op, outputs, size)[:2], {"sides": "cxcywh", "ending": "sigmoid", **meaning})

strange, sideless, yes = saying(anchors=3), saying(sides=["xyxy"]), saying(nms="no")
third, logits, corners = saying(background=3), saying(ending="logits"), saying(sides="xyxy")

def exits(op, outputs, size):
    raise SystemExit(0)

def empty(op, outputs, size):
    boxes, numbers, meaning = read(op, outputs, size)
    return boxes, op.Slice(numbers, op.ints([0]), op.ints([1]), op.ints([2])), {**meaning, "background": "first"}

def still(op, outputs, size):
    boxes, numbers, meaning = read(op, outputs, size)
    zero = op.constant(0, "float32")
    return op.Mul(boxes, zero), op.Mul(numbers, zero), meaning
'''
WRONG = {
    "nowhere.py:read": "reader nowhere.py:read: there is no file nowhere.py",
    "own.py:raed": "own.py has no function 'raed'; did you mean 'read'?",
    "own.py:flat": r"returns tensors of shapes \(1, 10, 7\) and \(1, 10, 7\); it must return boxes \(N, A, 4\)",
    "own.py:single": "own.py:single returns Value; it must return boxes",
    "own.py:lost": r"own.py:lost fails \(KeyError: 'scores'\); the outputs are y",
    "own.py:strange": "strange says 'anchors', which is none of background, ending, multi_label, nms, relative, sides",
    "own.py:sideless": r"sideless says sides=\['xyxy'\], which is none of cxcywh, xyxy, yxyx, xywh",
    "own.py:yes": "yes says nms='no', which is none of False, True",
    "own.py:third": "third says background=3, which is none of none, first, last",
    "own.py:logits": "logits says ending='logits', which is none of value, softmax, sigmoid",
    "own.py:corners": r"boxes end before they begin: they are read in another way, see the key 'sides' \(cxcywh, xyxy",
    "own.py:empty": r"returns tensors of shapes \(1, 10, 4\) and \(1, 10, 1\), without a box or a class",
    "own.py:exits": r"own.py:exits fails \(SystemExit: 0\)",
    "own.py": "reader 'own.py' names no function of the file; say own.py:FUNCTION",
    "torn.py:read": r"torn.py does not run \(SyntaxError: ",
    "out.py:read": r"out.py does not run \(SystemExit: 0\)",
    "YOLOX-Raw": "no reader 'YOLOX-Raw'; did you mean 'yolox-raw'?$",
    5: "no reader 5; use ",
}


def test_a_reader_of_ones_own(tmp_path, run, numbers_of, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "torn.py").write_text("def read(")
    (tmp_path / "out.py").write_text("raise SystemExit(0)")
    source = save(
        tmp_path / "m.onnx", f"{SIZED} l = Slice (z, n4, n7, n2) y = Concat <axis = 2> (b, l)", ["y"], anchors=10
    )
    manifest = export_model(source, tmp_path / "m.fcam", reader="own.py:read")
    assert (manifest.reader, manifest.ending, manifest.classes) == ("own.py:read", "sigmoid", 3)
    (tmp_path / "own.py").rename(tmp_path / "moved.py")
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    (tmp_path / "moved.py").rename(tmp_path / "own.py")
    image = np.random.default_rng(1).random((2, 3, *SIZE), np.float32)
    found = run(tmp_path / "m.fcam" / "explain.onnx", {"image": image, **manifest.form.placeholders(2)})["detections"]
    z = numbers_of(source, image)
    np.testing.assert_allclose(found[..., :4], centred(WIDTH * sigmoid(z[..., :4])), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found[..., 4:], z[..., 4:], rtol=1e-3, atol=1e-3)
    for reader, message in WRONG.items():
        with pytest.raises(UsageError, match=message.replace("?", r"\?")):
            canonicalize(source, reader=reader)
    with pytest.raises(ModelError, match=r"no layer can explain the model: .*the logits are the same for"):
        export_model(source, tmp_path / "n.fcam", reader="own.py:still")


def test_rf_detr_is_known_by_the_names_of_its_outputs(tmp_path):
    text = "labels = Slice (z, n4, n8, n2) c = Slice (z, n0, n4, n2) dets = Sigmoid (c)"
    read = canonicalize(save(tmp_path / "d.onnx", text, ["dets", "labels"], 10, columns=8))
    assert (read.reading.reader_name, read.detector.nms, read.detector.multi_label) == ("rt-detr", False, True)
