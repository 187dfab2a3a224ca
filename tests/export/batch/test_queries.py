"""Queries that each picture of a batch chooses by its own scores."""

import numpy as np
import onnxruntime
import pytest

from fusioncam.export.canonical import canonicalize
from fusioncam.export.sessions import run

rng = np.random.default_rng(0)
SIZE, CHANNELS = (4, 6), 4


@pytest.mark.parametrize("declared", [1, "N"], ids=["fixed", "free"])
def test_queries_that_each_image_chooses(declared, save_rows, tmp_path):
    """Queries as Ultralytics writes RT-DETR: the rows of all images follow each other, a constant has one."""
    rows = [
        ("Conv", "image conv", "c", {"pads": [1, 1, 1, 1]}),
        ("Reshape", "c flat", "f"),
        ("Transpose", "f", "t", {"perm": [0, 2, 1]}),
        ("ReduceMax", "t two", "best", {"keepdims": 0}),
        ("TopK", "best five", "values places", {"axis": 1}),
        ("Reshape", "places all", "flat_places"),
        ("Reshape", "t tokens", "flat_rows"),
        ("Gather", "flat_rows flat_places", "chosen", {"axis": 0}),
        ("Reshape", "chosen queries", "q"),
        ("Gather", "table flat_places", "anchors", {"axis": 1}),
        ("Mul", "q anchors", "moved"),
        ("ReduceMean", "moved one", "pooled", {"keepdims": 0}),
        ("Gemm", "pooled last", "scores"),
    ]
    numbers = {"flat": [1, CHANNELS, -1], "two": [2], "five": [5], "all": [-1], "tokens": [-1, CHANNELS], "one": [1]}
    shapes = {"conv": (CHANNELS, 3, 3, 3), "table": (1, 24, CHANNELS), "last": (CHANNELS, 5)}
    constants = {name: np.array(values, np.int64) for name, values in {**numbers, "queries": [1, 5, -1]}.items()}
    constants |= {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    source = save_rows(tmp_path / "queries.onnx", rows, constants, declared, SIZE, 18)
    pictures, session = rng.random((4, 3, *SIZE), np.float32), onnxruntime.InferenceSession(source)
    alone = np.concatenate([session.run(None, {"image": p[None]})[0] for p in pictures])
    assert np.ptp(alone, axis=0).max() > 1e-3, "the images differ"
    assert np.allclose(run(canonicalize(source).model, {"image": pictures})[0], alone, atol=1e-5)
