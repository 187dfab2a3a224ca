"""Instance masks of a detector, from its file to results."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusioncam import Box, Detections, Explainer
from fusioncam.export import export_model, single_graph


@pytest.fixture(scope="module")
def bundle(small_detector, detectors, tmp_path_factory):
    """Bundle of the small detector with masks: coefficients are its first three sides less half of the picture's."""
    folder = tmp_path_factory.mktemp("masks")
    model = onnx.load(small_detector.source)
    arrays = {
        "none": np.array([0]),
        "three": np.array([3]),
        "one": np.array([1]),
        "half": np.float32(detectors.SIZE / 2),
    }
    arrays["w"] = np.random.default_rng(0).normal(size=(3, 3, 4, 4)).astype(np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), n) for n, a in arrays.items())
    added = onnx.parser.parse_graph("""g (float[N] output0) => (float[N] both) {
        p = Slice (output0, none, three, one) c = Sub (p, half) both = Concat <axis = 1> (output0, c)
        prototypes = Conv <strides = [4, 4]> (images, w) }""")
    model.graph.node.extend(added.node)
    del model.graph.output[:]
    names = ("both", "prototypes")
    model.graph.output.extend(onnx.helper.make_tensor_value_info(name, 1, None) for name in names)
    onnx.helper.set_model_props(model, {"task": "segment", "names": repr(dict(enumerate(detectors.LABELS)))})
    onnx.save(model, folder / "m.onnx")
    export_model(folder / "m.onnx", folder / "m.fcam", preprocessing=detectors.FIELDS)
    return folder / "m.fcam"


def test_results_hold_the_mask_of_the_detection(bundle, detectors, tmp_path):
    explainer, x = Explainer(bundle, methods=("grad_cam",)), detectors.blobs(1)
    seen = max(explainer.detections(x), key=lambda d: d.mask.sum())
    explained = explainer.explain(x, target=Box(seen.class_index, seen.box))
    mask = explained.detection.mask
    assert mask.shape == x.shape[1:]
    assert 0 < mask.sum() < mask.size
    np.testing.assert_array_equal(explained.region, mask)
    np.testing.assert_array_equal(explained.to_dict()["region"], mask)
    explained.save(tmp_path / "e.npz")
    explained.save(tmp_path / "e.json")
    with np.load(tmp_path / "e.npz") as held:
        np.testing.assert_array_equal(held["mask"], mask)
    (found,) = json.loads((tmp_path / "e.json").read_text())["target"]["detections"]
    assert found["area"] == mask.sum()
    together = explainer.explain(x, target=Detections())
    wanted = np.any([d.mask for d in together.detections], axis=0)
    np.testing.assert_array_equal(together.region, wanted)


def test_the_single_graph_gives_no_prototypes(bundle):
    graph = onnx.load_from_string(single_graph(bundle)).graph
    assert "prototypes" not in {value.name for value in graph.output}
