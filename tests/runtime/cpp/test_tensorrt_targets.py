"""Regions and likenesses by a TensorRT engine, with the stand-ins of `tensorrt/`."""

import numpy as np
import onnxruntime
import pytest

from fusioncam.export import single_graph
from fusioncam.manifest import read_bundle
from fusioncam.runtime.photos.model_input import preprocess

METHODS = ("fusion_cam", "grad_cam", "score_cam")
SIZE = (40, 61)
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


@pytest.mark.parametrize(
    ("kind", "told", "target"),
    [
        ("segment", ("class", -1, 0), {"class_index": -1, "peak": False}),
        ("segment", ("region", 1, 1), {"class_index": 1, "peak": True}),
        ("embed", ("like", -1, 0), {"reference": [0.8, 0, 0, 0, -0.6, 0]}),
    ],
)
def test_targets_of_an_engine(tensorrt, target_bundle, tmp_path, kind, told, target):
    bundle, graph, engine = target_bundle(kind).bundle, tmp_path / "fusioncam.onnx", tmp_path / "model.engine"
    graph.write_bytes(single_graph(bundle))
    engine.write_text(f"fake engine\n{graph}")
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    photo.tofile(tmp_path / "photo")
    np.array(target.get("reference", 0), np.float32).tofile(tmp_path / "reference")
    file = tmp_path / "reference" if kind == "embed" else ""
    tensorrt.done("target", engine, graph, tmp_path / "photo", *SIZE, *told, file, *SIZE, tmp_path / "out")
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    x = preprocess(photo, read_bundle(bundle).preprocessing)
    given = {"image": x, "region": np.zeros((12, 16)), **target}
    feeds = {i.name: np.asarray(given[i.name], TYPES[i.type])[None] for i in session.get_inputs()}
    names = [*METHODS, "embedding" if kind == "embed" else "explained_region"]
    for name, (expected,) in zip(names, session.run(names, feeds), strict=True):
        found = np.fromfile(tmp_path / f"out.{name}", np.float32).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=name)
