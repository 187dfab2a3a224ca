import json
from dataclasses import FrozenInstanceError

import cv2
import numpy as np
import pytest

import fusioncam
from fusioncam.runtime.explanation import Explanation, Passes
from fusioncam.runtime.flags import FLAGS


def explanation(**facts):
    given = {
        "maps": {"fusion_cam": np.zeros((2, 3), np.float32)},
        "class_index": 4,
        "label": None,
        "probability": 0.5,
        "flags": (),
        "passes": Passes(7, 12),
        "timing": {"explain": 0.1234567},
    }
    return Explanation(**(given | facts))


def test_title():
    assert explanation().title == "class 4"
    assert explanation(label="cat").title == "cat"


def test_summary_is_ready_for_json():
    found = json.loads(json.dumps(explanation(flags=tuple(FLAGS)).summary()))
    assert found == {
        "image": None,
        "model": None,
        "digest": None,
        "layer": None,
        "providers": [],
        "size": None,
        "budget": None,
        "smooth": [],
        "version": fusioncam.__version__,
        "class_index": 4,
        "label": None,
        "probability": 0.5,
        "methods": ["fusion_cam"],
        "flags": FLAGS,
        "passes": {
            "run": 7,
            "channels": 12,
            "missing": 0.0,
            "error": 0.0,
            "tolerance": 1e-3,
            "surprise": 0.0,
            "standard_error": 0.0,
        },
        "timing_seconds": {"explain": 0.123457},
    }


def test_a_panel_says_where_the_maps_come_from():
    given = {
        "image": "folder/cat.jpg",
        "model": "net.fcam",
        "layer": "/features/features.18/Clip_output_0 + relu",
        "budget": "auto",
        "smooth": ("flip",),
        "passes": Passes(7, 12, error=7e-11),
        "providers": ("cuda", "cpu"),
    }
    assert explanation(**given).facts == {
        "Photo": "cat.jpg",
        "Model": "net.fcam",
        "Layer": "features.18/Clip + relu",
        "Views": "the photo, flip",
        "Budget": "auto: 7 passes for 12 channels, estimated error of Score-CAM below 0.0001",
        "Providers": "cuda, cpu",
        "Made by": f"fusioncam {fusioncam.__version__}",
    }
    assert list(explanation(providers=("cpu",)).facts) == ["Made by"]
    assert explanation(budget="exact", passes=Passes(0, 12)).facts["Budget"] == "exact: no masked passes"


def test_an_explanation_cannot_be_reassigned():
    with pytest.raises(FrozenInstanceError):
        explanation().label = "dog"


def test_a_real_one_is_ready_for_json(tiny, pictures):
    from fusioncam import Explainer

    found = json.loads(json.dumps(Explainer(tiny.bundle).explain(pictures[0]).summary()))
    assert found["methods"] == ["fusion_cam", "grad_cam", "score_cam"]
    assert 0 < found["probability"] <= 1
    assert set(found["flags"]) <= set(FLAGS)


def test_it_says_where_it_comes_from(tiny, tmp_path):
    from fusioncam import Explainer

    encoded = cv2.imencode(".png", np.full((30, 40, 3), 90, np.uint8))[1].tobytes()
    (tmp_path / "photo.png").write_bytes(encoded)
    explainer = Explainer([tiny.bundle, tiny.bundle], budget="80ms", smooth=["flip"], methods=["grad_cam"])
    found = explainer.explain(tmp_path / "photo.png").summary()
    digest = json.loads((tiny.bundle / "manifest.json").read_text())["digest"]
    assert {key: found[key] for key in list(found)[:8]} == {
        "image": str(tmp_path / "photo.png"),
        "model": "tiny.fcam + tiny.fcam",
        "digest": f"{digest} + {digest}",
        "layer": "layer + layer",
        "providers": ["cpu"],
        "size": [24, 32],
        "budget": "80ms",
        "smooth": ["flip"],
    }
    assert explainer.explain(np.zeros((30, 40, 3), np.uint8)).image is None


def test_it_keeps_the_logits_of_the_picture(tiny, oracle, pictures):
    from fusioncam import Explainer

    first, second = Explainer(tiny.bundle).explain_batch(pictures[:1], [[0, 3]])
    assert first.logits.dtype == np.float32
    np.testing.assert_allclose(first.logits, oracle(tiny.bundle).logits(pictures[0]), atol=1e-5)
    np.testing.assert_array_equal(first.logits, second.logits)
    assert first.logits is not second.logits
    assert "logits" not in first.summary()
