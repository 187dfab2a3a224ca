"""Vectors of classes make a classifier of an embedding model."""

import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.export import check, export_model

VECTORS = np.random.default_rng(0).normal(size=(5, 7))


@pytest.fixture
def embedder(dense, tmp_path):
    return dense.save(tmp_path / "m.onnx", "y = Identity (e)")


@pytest.mark.parametrize("form", ["array", "file"])
def test_logits_are_scaled_cosines(form, embedder, dense, tmp_path, run):
    given = VECTORS
    if form == "file":
        given = tmp_path / "v.npy"
        np.save(given, VECTORS)
    manifest = export_model(
        embedder, tmp_path / "m.fcam", class_vectors=given, class_scale=30.0, labels=list("abcde"), layer="f"
    )
    assert (manifest.task, manifest.classes, manifest.ending) == ("classify", 5, "logits")
    assert manifest.source.class_vectors
    x = np.random.default_rng(1).normal(size=(2, 3, *dense.SIZE)).astype(np.float32)
    features, weights = dense.features(x)
    vector = dense.embedding(features, weights).numpy()
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (vector, VECTORS)]
    expected = 30 * unit[0] @ unit[1].T
    for name, targets in (("explain.onnx", manifest.form.placeholders(2)), ("score.onnx", {})):
        found = run(tmp_path / "m.fcam" / name, {"image": x, **targets})["logits"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []


def test_each_class_by_itself(embedder, tmp_path):
    manifest = export_model(embedder, tmp_path / "m.fcam", class_vectors=VECTORS, ending="sigmoid", precision="fp16")
    assert (manifest.task, manifest.ending, manifest.score_precision) == ("classify", "sigmoid", "float16")


BAD = {
    "file": ("nowhere.npy", "class vectors cannot be read from nowhere.npy: No such file"),
    "text": (__file__, "it is no .npy file of numbers"),
    "length": (VECTORS[:, :3], "class vectors have 3 numbers each, but the model's embedding has 7"),
    "rank": (VECTORS[0], r"class vectors are one array \(classes, D\) of two or more rows of numbers, not \(7,\)"),
    "zero": (VECTORS * [[1], [0], [1], [1], [1]], "class vector 1 is zero or not finite"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_vectors_are_told(name, embedder, tmp_path):
    given, message = BAD[name]
    with pytest.raises(UsageError, match=message):
        export_model(embedder, tmp_path / "m.fcam", class_vectors=given)


def test_bad_options_are_told(embedder, tmp_path):
    for options, message in (
        ({"class_scale": 0.0}, "the scale of class vectors is a positive number, not 0.0"),
        ({"task": "segment"}, "class vectors make a classifier of an embedding"),
        ({"size": "any"}, "a model with class vectors has a bundle of one size"),
    ):
        with pytest.raises(UsageError, match=message):
            export_model(embedder, tmp_path / "m.fcam", class_vectors=VECTORS, **options)
