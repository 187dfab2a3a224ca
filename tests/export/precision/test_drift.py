"""The drift of maps by int8 scores: its tail is measured, limited, kept in the manifest and flagged."""

import re

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusioncam import Explainer
from fusioncam.drift import Drift
from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model
from fusioncam.export.precision import drift
from fusioncam.manifest import SCORE_GRAPH, read_bundle
from fusioncam.runtime.flags import flag_text


def test_check_reports_the_drift(quantised, photos):
    kept = read_bundle(quantised[2]).drift
    assert (kept.photos, kept.seen, kept.accepted, set(kept.methods)) == (6, True, False, {"score_cam", "fusion_cam"})
    findings = check(quantised[2])  # what the manifest holds
    assert [f.ok for f in findings] == [True] * 11
    for n, (title, found) in enumerate(zip(("Score-CAM", "Fusion-CAM"), kept.methods.values(), strict=True)):
        worst, share, median = findings[5 + 3 * n :][:3]
        what = f"{title} by int8 scores is that by exact ones"
        assert worst.what == f"{what}: r of the worst of 6 photos of the calibration, {found.photo}"
        assert (worst.error, worst.limit, worst.at_least) == (found.worst, 0.95, True)
        assert (share.what, share.error) == (
            f"{what}: share of 6 photos of the calibration with r below 0.99",
            found.below,
        )
        assert (median.what, median.error) == (f"{what}: median r of 6 photos of the calibration", found.median)
        assert found.worst <= found.median < 1
    named = [(f"{n}.png", x) for n, x in enumerate(photos(read_bundle(quantised[2]).preprocessing, 4, seed=5))]
    on_photos = check(quantised[2], photos=lambda prep: named)
    assert [f.ok for f in on_photos] == [True] * 11
    assert re.search(r"r of the worst of 4 photos, \d\.png$", on_photos[5].what)
    assert on_photos[5].error != findings[5].error


def maps_of(bundle, methods, pictures):
    explainer = Explainer(bundle, methods=methods)
    return [explainer.explain(x).maps for x in pictures]


def test_the_drift_is_that_of_the_explainer(quantised, photos):
    _, full, small = quantised
    manifest = read_bundle(small)
    pictures = list(photos(manifest.preprocessing, 5, seed=5))
    findings = check(small, photos=lambda prep: pictures)
    methods = ["score_cam", "fusion_cam"]
    exact, rounded = (maps_of(bundle, methods, pictures) for bundle in (full, small))
    for n, method in enumerate(methods):
        r = [np.corrcoef(a[method].ravel(), b[method].ravel())[0, 1] for a, b in zip(exact, rounded, strict=True)]
        worst, share, median = findings[5 + 3 * n :][:3]
        assert worst.error == pytest.approx(min(r), abs=1e-4)
        assert worst.what.endswith(f"photo {1 + int(np.argmin(r))}")
        assert share.error == np.mean(np.array(r) < 0.99)
        assert median.error == pytest.approx(np.median(r), abs=1e-4)


def test_too_much_drift_is_refused_and_can_be_accepted(tiny, tmp_path, monkeypatch, pictures, photos, raw):
    monkeypatch.setitem(drift.TAILS, "int8", drift.Tail(worst=0.9999999, below=1, median=0))
    options = {"preprocessing": raw, "precision": "int8", "calibrate": photos}
    why = (
        r"^in int8 Score-CAM's maps drift: r of the worst of 6 photos of the calibration, photo \d, is \d\.\d+ "
        r"\(\S+ is allowed\): its values need more than 8 bits; calibrate on more photos, .*, accept it with "
        r"--accept-drift, or export it without --precision int8$"
    )
    with pytest.raises(ModelError, match=why):
        export_model(tiny(size=(24, 32)), tmp_path / "t.fcam", **options)
    assert not (tmp_path / "t.fcam").exists()
    manifest = export_model(tiny(size=(24, 32)), tmp_path / "t.fcam", **options, accept_drift=True)
    assert manifest == read_bundle(tmp_path / "t.fcam")
    assert manifest.drift.accepted
    (flag,) = (f for f in Explainer(tmp_path / "t.fcam").explain(pictures[0]).flags if f.startswith("drifting"))
    assert flag == f"drifting_scores={manifest.drift.worst:.3f}"
    assert flag_text(flag).endswith(f"only {manifest.drift.worst:.3f}")
    failed = [f for f in check(tmp_path / "t.fcam") if not f.ok]
    assert len(failed) == 2
    assert all("r of the worst" in f.what for f in failed)
    accepted = check(tmp_path / "t.fcam", accept_drift=True)
    assert all(f.ok for f in accepted)
    assert [f.what for f in accepted if not f.within] == [f.what for f in failed]


def test_no_more_photos_are_measured_than_can_be_waited_for(quantised, monkeypatch, photos):
    monkeypatch.setattr("fusioncam.export.checking.check.MOST_PHOTOS", 3)
    pictures = list(photos(read_bundle(quantised[2]).preprocessing, 9))
    named = [(f"{n}.png", x) for n, x in enumerate(pictures)]
    measured = []
    monkeypatch.setattr(drift, "_correlations", lambda *a: {"score_cam": measured.append(a[-1]) or 1.0})
    findings = check(quantised[2], photos=lambda prep: iter(named))
    assert "worst of 3 photos" in findings[5].what
    for found, n in zip(measured, (0, 4, 8), strict=True):
        np.testing.assert_array_equal(found, pictures[n])


def test_without_a_gradient_score_cam_alone_is_measured(tiny, tmp_path, photos, raw):
    options = {"preprocessing": raw, "precision": "int8", "calibrate": photos, "gradient": False}
    manifest = export_model(tiny(size=(24, 32)), tmp_path / "t.fcam", **options)
    assert set(manifest.drift.methods) == {"score_cam"}


def test_symmetric_scores_have_no_zero_points_and_float_biases(tiny, tmp_path, photos, raw):
    """TensorRT takes no other int8."""
    options = {"preprocessing": raw, "precision": "int8", "calibrate": photos, "symmetric": True}
    manifest = export_model(tiny(size=(24, 32)), tmp_path / "t.fcam", **options)
    assert min(m.worst for m in manifest.drift.methods.values()) > 0.9
    graph = onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH).graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) > 6
    for node in nodes:
        assert constants[node.input[2]].dtype == np.int8
        assert not constants[node.input[2]].any()
    biases = [constants[n.input[2]] for n in graph.node if n.op_type in ("Conv", "Gemm")]
    assert len(biases) == 3
    assert all(b.dtype == np.float32 for b in biases)
    with pytest.raises(UsageError, match=r"^symmetric scores are for int8 only; leave --symmetric out"):
        export_model(tiny(), tmp_path / "u.fcam", symmetric=True)


def test_photos_are_no_use_without_drift(quantised, photos):
    with pytest.raises(UsageError, match=r"^photos measure the drift of fp16 or int8 scores, .*; leave them out$"):
        check(quantised[1], photos=photos)


def test_nothing_to_accept_without_drift(quantised, tiny, tmp_path):
    unclear = r"^maps drift by scores in fp16 or int8, .*; leave --accept-drift out$"
    with pytest.raises(UsageError, match=unclear):
        check(quantised[1], accept_drift=True)
    with pytest.raises(UsageError, match=unclear):
        export_model(tiny(), tmp_path / "t.fcam", accept_drift=True)
    assert not (tmp_path / "t.fcam").exists()


def test_a_drift_without_methods_is_none():
    with pytest.raises(ValueError, match="methods"):
        Drift(photos=1, seen=True, accepted=True, methods={})
