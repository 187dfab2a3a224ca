"""Bundles whose masked passes are in float16, from the command line to the maps."""

import itertools
import json

import numpy as np
import onnxruntime
import pytest

from fusioncam import Explainer
from fusioncam.errors import FusionCamError
from fusioncam.export import export_model
from fusioncam.kernels.masks import MaskMaker
from fusioncam.kernels.reference import fusion_cam, probabilities
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import PassRequest
from fusioncam.runtime.sessions.masked_graph import MASKS


@pytest.mark.parametrize("pad", [False, True])
def test_pictures_are_made_in_the_type_of_the_session(pad):
    class Model:
        def run(self, outputs, feeds):
            assert feeds["image"].dtype == np.float16
            return [feeds["image"].sum((1, 2, 3), dtype=np.float32)[:, None]]

    def halves(start, stop, out):
        np.multiply(np.full(out.shape, 0.5, np.float32), np.float32(1), out=out)

    rows = []

    def work():
        yield PassRequest(6, halves, lambda _, logits: rows.extend(logits), Clock())

    list(Scorer(Model(), (3, 4, 5), 4, pad, dtype=np.float16).scheduler().run([work()]))
    np.testing.assert_array_equal(rows, np.full((6, 1), 30))


def test_the_maps_are_nearly_those_of_float32(tiny, pictures, tmp_path):
    source = tiny.bundle.with_suffix(".onnx")
    prep = Explainer(tiny.bundle).manifest.preprocessing.model_dump(exclude={"origin"})
    export_model(source, tmp_path / "half.fcam", layer="layer", preprocessing=prep, precision="fp16")
    full, half = (Explainer(bundle).explain(pictures[0], 1) for bundle in (tiny.bundle, tmp_path / "half.fcam"))
    np.testing.assert_array_equal(half.maps["grad_cam"], full.maps["grad_cam"])
    for method in ("score_cam", "fusion_cam"):
        np.testing.assert_allclose(half.maps[method], full.maps[method], rtol=0, atol=0.02)
        assert (half.maps[method] != full.maps[method]).any()


def test_a_picture_that_float16_does_not_hold_is_one_error_without_warnings(tiny, pictures, tmp_path):
    export_model(tiny.bundle.with_suffix(".onnx"), tmp_path / "half.fcam", layer="layer", precision="fp16")
    with pytest.raises(FusionCamError, match="NaN or infinite logits"):
        Explainer(tmp_path / "half.fcam").explain(pictures[0] * np.float32(1e6))


class Meter:
    """A session that keeps the sizes of its batches."""

    def __init__(self, session):
        self.session, self.batches = session, []

    def run(self, outputs, feeds, *options):
        self.batches.append(len(next(iter(feeds.values()))) if "image" in feeds else len(feeds[MASKS]))
        return self.session.run(outputs, feeds, *options)


@pytest.mark.parametrize("class_index", [0, 1, 2, 4])  # the map of 3 shows no difference
def test_confidences_of_an_int8_bundle_are_those_of_float32(tiny_int8, relayed, pictures, class_index):
    explainer, relays = relayed(tiny_int8)
    explain, score = (Meter(relay.session) for relay in (relays.explain, relays.score))
    relays.explain.session, relays.score.session = explain, score
    x = pictures[0]
    found = explainer.explain(x, class_index)
    live, again = 12 - 3, 5
    assert found.passes.run == live + again + 4
    assert explain.batches == [1, 2, again, 1, 1]  # the explain pass; x * 0 and x * D; heavy channels; x * R; x * U
    assert sum(score.batches) == live

    graphs = {n: onnxruntime.InferenceSession(tiny_int8 / n) for n in ("explain.onnx", "score.onnx")}

    def logits(graph, m):
        feeds = {"image": (x * m)[None].astype(np.float32)}
        feeds |= {"class_index": np.full(1, -1)} if graph == "explain.onnx" else {}
        return graphs[graph].run(["logits"], feeds)[0]

    feeds = {"image": x[None], "class_index": np.full(1, class_index)}
    seen = [array[0] for array in graphs["explain.onnx"].run(["activations", "gradients"], feeds)]
    masks = MaskMaker(seen[0], x)
    activations, gradients = (array.astype(np.float64) for array in seen)
    scores = np.full(12, logits("explain.onnx", np.zeros(x.shape[1:]))[0, class_index], np.float64)
    channels = np.flatnonzero(~masks.zero & ~masks.constant)
    coarse = np.array([logits("score.onnx", masks.full(k))[0, class_index] for k in channels])
    heavy = np.argsort(-coarse)[:again]
    exact = np.array([logits("explain.onnx", masks.full(k))[0, class_index] for k in channels[heavy]])
    weights = np.exp(coarse[heavy]) / np.exp(coarse[heavy]).sum()
    scores[channels] = coarse + weights @ (exact - coarse[heavy])
    scores[channels[heavy]] = exact
    maps = {
        graph: fusion_cam(
            activations, gradients, scores,
            lambda m, graph=graph: float(probabilities(logits(graph, m), "logits")[0, class_index]), x.shape[1:],
        )["fusion_cam"]
        for graph in ("explain.onnx", "score.onnx")
    }  # fmt: skip
    np.testing.assert_allclose(
        found.maps["fusion_cam"], maps["explain.onnx"], rtol=0, atol=5e-5
    )  # masks differ in their last digit, and round to other steps
    assert np.abs(maps["score.onnx"] - maps["explain.onnx"]).max() > 1e-4  # so the line above tells them apart


@pytest.mark.parametrize("budget", [6, 7, 9, 12, 100, 0.5, "auto"])
@pytest.mark.parametrize("methods", [["fusion_cam"], ["score_cam", "score_cam_corners", "score_cam_increase"]])
def test_passes_that_are_run_again_are_within_the_budget(tiny_int8, pictures, budget, methods):
    explainer, calls = Explainer(tiny_int8, methods=methods, budget=budget), []
    explanation = explainer.explain(pictures[0], 2, progress=lambda *call: calls.append(call))
    if isinstance(budget, int):
        assert explanation.passes.run <= budget
    done, total = calls[-1]
    assert done == total == explanation.passes.run
    assert all(before <= after for (before, _), (after, _) in itertools.pairwise(calls))
    for m in explanation.maps.values():
        assert np.isfinite(m).all()
        assert 0 <= m.min() <= m.max() <= 1


def test_several_classes_share_the_passes_that_are_run_again(tiny_int8, pictures):
    explainer = Explainer(tiny_int8, methods=["score_cam"])
    first, second = explainer.explain_batch([pictures[0]], [[0, 4]])
    assert 9 + 1 + 5 <= first.passes.run == second.passes.run <= 9 + 1 + 9
    alone = explainer.explain(pictures[0], 4)
    assert np.corrcoef(second.maps["score_cam"].ravel(), alone.maps["score_cam"].ravel())[0, 1] > 0.999


def test_from_the_command_line(run, work, tmp_path):
    target = tmp_path / "half.fcam"
    status, out, err = run("export", "tiny.onnx", "-o", target, "--preset", "unit", "--precision", "fp16", "--json")
    assert status == 0, err
    assert json.loads(out)["score_precision"] == "float16"
    status, out, _ = run("check", target)
    assert status == 0
    assert out.count("ok  ") == 7
    status, _, err = run("export", "tiny.onnx", "-o", target, "--precision", "int4")
    assert (status, err) == (2, "error: no precision 'int4'; use fp32, fp16 or int8\n")
