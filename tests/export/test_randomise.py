"""A bundle with shuffled weights is a bundle: sound, of the same distribution, and another model."""

import numpy as np
import onnx_ir as ir
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle, weights
from fusioncam.manifest import MANIFEST, WEIGHTS, read_bundle
from fusioncam.runtime.sessions.open import open_session

UNIT = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


@pytest.fixture(scope="module")
def tiny(make_tiny):
    return make_tiny(zero=(1, 5), constant=(3,))


def tensors(path):
    return {name: value.const_value.numpy() for name, value in ir.load(path).graph.initializers.items()}


def logits_of(bundle, x):
    feeds = {"image": x[None], "class_index": np.array([-1], np.int64)}
    explain, score = (open_session(bundle / name) for name in ("explain.onnx", "score.onnx"))
    kind = np.float16 if "float16" in score.get_inputs()[0].type else np.float32
    return explain.run(["logits"], feeds)[0], score.run(["logits"], {"image": feeds["image"].astype(kind)})[0]


def test_weights_are_shuffled_and_nothing_else(tiny, tmp_path):
    manifest = randomised_bundle(tiny.bundle, tmp_path / "r.fcam", seed=3)
    assert read_bundle(tmp_path / "r.fcam") == manifest
    shuffled = {"w1", "w2", "w3", "w4"}
    for name in (n for n in manifest.files if n != WEIGHTS):
        before, after = tensors(tiny.bundle / name), tensors(tmp_path / "r.fcam" / name)
        assert before.keys() == after.keys()
        for tensor, values in before.items():
            assert after[tensor].shape == values.shape
            np.testing.assert_array_equal(np.sort(after[tensor], axis=None), np.sort(values, axis=None))
            moved = (after[tensor] != values).any()
            assert moved == (tensor in shuffled), tensor
    assert manifest.tools["randomised"] == "seed 3, 4 of 4 tensors"
    source = (tmp_path / "r.fcam" / manifest.source.path).resolve()
    assert source == (tiny.bundle / read_bundle(tiny.bundle).source.path).resolve()


def test_both_graphs_stay_one_model_and_become_another(tiny, tmp_path, pictures):
    randomised_bundle(tiny.bundle, tmp_path / "r.fcam")
    explain, score = logits_of(tmp_path / "r.fcam", pictures[0])
    np.testing.assert_allclose(explain, score, atol=1e-5)
    assert abs(explain - logits_of(tiny.bundle, pictures[0])[0]).max() > 0.1
    one, other = (Explainer(b).explain(pictures[0], 2).maps["fusion_cam"] for b in (tiny.bundle, tmp_path / "r.fcam"))
    assert abs(one - other).max() > 0.1


def test_the_seed_makes_the_weights(tiny, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        randomised_bundle(tiny.bundle, tmp_path / name, seed)
    a, b, c = ((tmp_path / name / WEIGHTS).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_cascading_from_the_logits_down(tiny, tmp_path):
    assert weights(ir.load(tiny.bundle / "score.onnx")) == ["w4", "w3", "w2", "w1"]
    randomised_bundle(tiny.bundle, tmp_path / "r.fcam", last=2)
    before, after = tensors(tiny.bundle / "score.onnx"), tensors(tmp_path / "r.fcam" / "score.onnx")
    assert {n for n in before if (before[n] != after[n]).any()} == {"w4", "w3"}


def test_float16_scores_stay_those_of_the_gradient(tiny, tmp_path, pictures):
    source = tiny.bundle / read_bundle(tiny.bundle).source.path
    export_model(source, tmp_path / "h.fcam", layer="layer", preprocessing=UNIT, precision="fp16")
    randomised_bundle(tmp_path / "h.fcam", tmp_path / "r.fcam")
    explain, score = logits_of(tmp_path / "r.fcam", pictures[0])
    np.testing.assert_allclose(explain, score, rtol=2e-2, atol=2e-2)
    assert abs(explain - logits_of(tiny.bundle, pictures[0])[0]).max() > 0.1


def test_what_cannot_be_shuffled_is_refused(tiny, tmp_path, pictures):
    source = tiny.bundle / read_bundle(tiny.bundle).source.path
    export_model(
        source,
        tmp_path / "q.fcam",
        layer="layer",
        preprocessing=UNIT,
        precision="int8",
        calibrate=lambda preprocessing: pictures,
    )
    with pytest.raises(UsageError, match="are integers, which cannot be shuffled"):
        randomised_bundle(tmp_path / "q.fcam", tmp_path / "r.fcam")
    with pytest.raises(UsageError, match="would replace it"):
        randomised_bundle(tiny.bundle, tiny.bundle)
    assert not (tmp_path / "r.fcam").exists()
    assert (tiny.bundle / MANIFEST).is_file()
