"""The single graph and the graphs without a Loop for boxes: the level of an anchor is chosen in the graph."""

import shutil

import numpy as np
import onnx
import pytest

from fusioncam import Box, Explainer
from fusioncam.export import single_graph, unrolled_graphs
from fusioncam.export.single.verify import compare_variants
from fusioncam.manifest import CHUNK_GRAPH, FUSE_GRAPH, SINGLE_GRAPH, read_bundle

SAME = 1e-4
FORMS = (SINGLE_GRAPH, CHUNK_GRAPH, FUSE_GRAPH)
MAPS = ("fusion_cam", "grad_cam", "score_cam")
REAL, WHOLE = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64


def asked(c=-1, box=(0, 0, 0, 0), anchor=-1, weights=(0, 0, 0, 0, 0)):
    """A target as the graph takes it; by default all is open."""
    return {
        "class_index": np.int64(c),
        "box": np.array(box, np.float32),
        "anchor": np.int64(anchor),
        "weights": np.array(weights, np.float32),
    }


@pytest.fixture(scope="module")
def x(detectors):
    """A picture, preprocessed."""
    return detectors.blobs(3)


@pytest.fixture(scope="module")
def every_form(small_detector, tmp_path_factory):
    """A bundle with all forms, and its manifest."""
    folder = tmp_path_factory.mktemp("forms") / "m.fcam"
    shutil.copytree(small_detector.bundle, folder)
    forms = {SINGLE_GRAPH: single_graph(folder), **unrolled_graphs(folder, 5)}
    for name, data in forms.items():
        (folder / name).write_bytes(data)
    manifest = read_bundle(folder)
    return folder, manifest.model_copy(update={"files": manifest.files | dict.fromkeys(forms, "")})


@pytest.fixture(scope="module")
def single(small_detector, run_single):
    """Runs the single graph."""
    return run_single(small_detector.bundle)


def test_maps_are_those_of_the_explainer(small_detector, detectors, x, single, run_unrolled):
    """For the class and for the edges of a detection on each level."""
    explainer, unrolled, layers = Explainer(small_detector.bundle), run_unrolled(small_detector.bundle), []
    for level, by in ((0, "score"), (1, "score"), (2, "score"), (1, "box")):
        detection = next(d for d in explainer.detections(x, conf=0) if detectors.level_of(d.anchor) == level)
        wanted = explainer.explain(x, target=Box(detection.class_index, detection.box, by=by, conf=0))
        target = wanted.target.tensors
        layers += wanted.layers
        found = single(x, target)
        assert found["confidences"][0] == pytest.approx(wanted.probability, abs=1e-5)
        assert found["explained_anchor"][0] == target["anchor"] == detection.anchor
        for maps in (found, unrolled(x, target)):
            assert max(np.abs(maps[name][0] - wanted.maps[name]).max() for name in MAPS) <= SAME
    assert len(set(layers)) == 3


def test_the_best_fit_is_found(x, single):
    form = single(x, asked())["detections"][0]
    chances = 1 / (1 + np.exp(-form[:, 4:]))
    given = form[60, :4] + (2, -1, 1, 2)
    overlap = overlaps(given, form[:, :4])
    cases = {
        "all is open": (asked(), chances.max(axis=1)),
        "a class": (asked(1), chances[:, 1]),
        "a box": (asked(box=given), chances.max(axis=1) * overlap),
        "a class at a box": (asked(2, given), chances[:, 2] * overlap),
        "a class at an anchor": (asked(2, anchor=7), np.arange(len(form)) == 7),
    }
    for case, (target, fits) in cases.items():
        found, anchor = single(x, target), int(fits.argmax())
        c = chances[anchor].argmax() if target["class_index"] < 0 else target["class_index"]
        assert (found["explained_anchor"][0], found["explained_class"][0]) == (anchor, c), case
        np.testing.assert_array_equal(found["explained_box"][0], form[anchor, :4])
        assert found["scores"][0] == pytest.approx(form[anchor, 4 + c], abs=1e-5)


def overlaps(box, boxes):
    low, high = np.maximum(box[:2], boxes[:, :2]), np.minimum(box[2:], boxes[:, 2:])
    shared = (high - low).clip(0).prod(axis=1)
    return shared / ((boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared)


def test_a_box_that_overlaps_none_gives_no_map(x, single):
    """None of the numbers looks like a result."""
    found = single(x, asked(box=(900, 900, 950, 950)))
    assert all(np.isnan(found[name]).all() for name in ("scores", "confidences", *MAPS))


def ports(values):
    return {v.name: (v.type.tensor_type.elem_type, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in values}


def test_inputs_outputs_and_metadata(every_form):
    single, chunk, fuse = (onnx.load(every_form[0] / name) for name in FORMS)
    target = {"class_index": (WHOLE, [1]), "box": (REAL, [1, 4]), "anchor": (WHOLE, [1]), "weights": (REAL, [1, 5])}
    told = {"explained_class": (WHOLE, [1]), "explained_box": (REAL, [1, 4]), "explained_anchor": (WHOLE, [1])}
    shown = dict.fromkeys(MAPS, (REAL, [1, 96, 96])) | dict.fromkeys(("scores", "confidences"), (REAL, [1]))
    form = {"detections": (REAL, [1, 189, 7])}
    image = {"image": (REAL, [1, 3, 96, 96])}
    assert ports(single.graph.input) == image | target
    assert ports(single.graph.output) == shown | form | told
    shapes = {"": (8, 12, 12), "_1": (12, 6, 6), "_2": (16, 3, 3)}
    layers = {f"{name}{n}": (REAL, [1, *of]) for name in ("activations", "gradients") for n, of in shapes.items()}
    assert ports(chunk.graph.input) == {**image, **target, **form, **layers, "channels": (WHOLE, [5])}
    assert ports(fuse.graph.input) == {**image, **target, **form, **layers, "scores": (REAL, [16])}
    for model in (single, chunk, fuse):
        onnx.checker.check_model(model, full_check=True)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    said = {p.key.removeprefix("fusioncam."): p.value for p in single.metadata_props}
    kept = ("task", "schema_version", "anchors", "conf", "iou", "class_wise", "nms", "multi_label", "most", "resize")
    assert [said[key] for key in kept] == ["detect", "3", "189", "0.25", "0.7", "1", "1", "0", "300", "letterbox"]


def test_check_compares_all_forms(every_form, x):
    findings = compare_variants(*every_form, x)
    assert [f.ok for f in findings] == [True, True], findings


def test_tensorrt_takes_it(every_form, refused):
    assert refused(every_form[0], [SINGLE_GRAPH]) == []
