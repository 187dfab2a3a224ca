"""Verification within the engine: its passes are counted, shared and kept within the budget."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.probes.controls import CONTROLS
from fusioncam.runtime.probes.likeness import correlation
from fusioncam.runtime.probes.verdict import passes_of

LIVE = 9  # channels of `tiny`
PASSES = LIVE + 4 + 23
SCENES = range(6)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """The bundle of the built-in model."""
    folder = tmp_path_factory.mktemp("shapes") / "shapes.fcam"
    export_model(MODEL, folder)
    return folder


@pytest.fixture(scope="session")
def shuffled(shapes, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shuffled") / "shuffled.fcam"
    randomised_bundle(shapes, folder, seed=2)
    return folder


def negative_evidence(weights):
    """All channels speak against class 0."""
    weights["w3"], weights["b3"] = np.abs(weights["w3"]), np.abs(weights["b3"])
    weights["w4"][0] = -np.abs(weights["w4"][0])


def test_maps_are_the_same_and_passes_are_counted(tiny, counted, pictures):
    explainer, counter = counted(tiny.bundle, chunk=4)
    calls = []
    found = explainer.explain(pictures[0], 1, verify=True, progress=lambda *call: calls.append(call))
    assert found.passes.run == counter.pictures == PASSES
    assert calls[-1] == (PASSES, PASSES)
    assert all(total == PASSES for _, total in calls)
    assert [done for done, _ in calls] == sorted({done for done, _ in calls})
    wanted = explainer.explain(pictures[0], 1)
    assert wanted.verdict is None
    assert wanted.passes.run == LIVE + 4
    for method, m in wanted.maps.items():
        np.testing.assert_array_equal(found.maps[method], m)
    assert found.flags == wanted.flags


def test_the_figures_are_the_answers_of_the_model(tiny, oracle, pictures):
    found = Explainer(tiny.bundle).explain(pictures[0], 1, verify=True)
    confidence = oracle(tiny.bundle).confidence
    before, m = confidence(pictures[0], 1), found.maps["fusion_cam"]
    maps = {"map": m, **{name: control.make(m) for name, control in CONTROLS.items()}}
    for version, saliency in maps.items():
        under = confidence(pictures[0] * saliency, 1)
        assert found.verdict.figures[version]["drop"] == pytest.approx(max(0, before - under) / before, abs=1e-5)
    mirrored = Explainer(tiny.bundle, methods=["grad_cam"]).explain(np.ascontiguousarray(pictures[0][..., ::-1]), 1)
    turned = correlation(found.maps["grad_cam"], mirrored.maps["grad_cam"][:, ::-1])
    assert found.verdict.numbers["flip"] == pytest.approx(turned, abs=1e-6)
    agreement = correlation(found.maps["grad_cam"], found.maps["score_cam"])
    assert found.verdict.numbers["agreement"] == pytest.approx(agreement, abs=1e-6)


def test_classes_of_a_picture_share_their_passes(tiny, counted, pictures):
    explainer, counter = counted(tiny.bundle, chunk=4)
    found = explainer.explain_batch(pictures[:1], [[0, 3]], verify=True)
    assert counter.pictures == found[0].passes.run == LIVE + 1 + 2 * 3 + passes_of(2)
    for e in found:
        alone = explainer.explain(pictures[0], e.class_index, verify=True).verdict
        assert (e.verdict.name, e.verdict.reasons) == (alone.name, alone.reasons)
        assert e.verdict.figures["map"]["support"] == pytest.approx(alone.figures["map"]["support"], abs=1e-5)


def test_pictures_share_runs(tiny, counted, pictures):
    explainer, counter = counted(tiny.bundle, chunk=16)
    list(explainer.explain_batch(pictures, verify=True))
    assert counter.pictures == 3 * PASSES
    assert len(counter.batches) < 3 * (-(-(LIVE + 2) // 16) + 2 + -(-23 // 16))


def test_the_first_map_that_is_not_blank_is_verified(make_tiny, tiny, pictures):
    methods = ("grad_cam", "score_cam")
    assert Explainer(tiny.bundle, methods=methods).explain(pictures[0], 1, verify=True).verdict.method == "grad_cam"
    found = Explainer(make_tiny(negative_evidence).bundle, methods=methods).explain(pictures[0], 0, verify=True)
    assert "flat_grad_cam" in found.flags
    assert found.verdict.method == "score_cam"


def test_a_blank_map_gets_a_verdict_and_no_pass(make_tiny, counted, pictures):
    explainer, counter = counted(make_tiny(zero=tuple(range(12))).bundle)
    found = explainer.explain(pictures[0], 1, verify=True)
    assert counter.pictures == found.passes.run == 4
    assert (found.verdict.name, found.verdict.numbers) == ("unsupported", {})
    assert "blank" in found.verdict.line


@pytest.mark.parametrize("method", ["grad_cam", "layer_cam", "score_cam", "group_cam", "recipro_cam", "union_cam"])
def test_every_method_can_be_verified(tiny, pictures, method):
    found = Explainer(tiny.bundle, methods=[method]).explain(pictures[0], verify=True)
    assert found.verdict.method == method
    summary = json.loads(json.dumps(found.summary(), allow_nan=False))["verdict"]
    assert set(summary) == {"name", "method", "stable", "reasons", "numbers", "figures"}
    assert summary["numbers"]["flip"] is not None


def test_without_a_gradient_nothing_is_mirrored(tiny, tmp_path, pictures):
    export_model(tiny.bundle.parent / "tiny.onnx", tmp_path / "b.fcam", layer="layer", gradient=False)
    found = Explainer(tmp_path / "b.fcam", methods=["score_cam"]).explain(pictures[0], 1, verify=True).verdict
    assert found.numbers["flip"] is found.numbers["agreement"] is None
    assert found.numbers["support"] is not None


@pytest.mark.parametrize("budget", [28, 33])
def test_a_number_counts_the_passes_of_the_verdict(make_tiny, counted, pictures, budget):
    explainer, counter = counted(make_tiny(channels=100).bundle, budget=budget)
    found = explainer.explain(pictures[0], 1, verify=True)
    assert found.passes.run == counter.pictures == budget
    assert found.verdict is not None


@pytest.mark.parametrize(
    ("methods", "budget", "words"),
    [
        (("fusion_cam",), 27, "27 are needed besides those of channels"),
        (("grad_cam",), 22, "a budget of 22 passes is too small: 23 are needed"),
        (("group_cam",), 24, "a budget of 24 passes is too small: [0-9]+ are needed"),
    ],
)
def test_a_budget_that_is_too_small_for_the_verdict(tiny, pictures, methods, budget, words):
    explainer = Explainer(tiny.bundle, methods=methods, budget=budget)
    explainer.explain(pictures[0])
    with pytest.raises(UsageError, match=words):
        explainer.explain(pictures[0], verify=True)


@pytest.mark.parametrize("budget", ["auto", 0.5])
def test_other_budgets_leave_the_verdict_its_passes(make_tiny, counted, pictures, budget):
    explainer, counter = counted(make_tiny(channels=200).bundle, budget=budget)
    plain = explainer.explain(pictures[0], 1).passes.run
    counter.batches.clear()
    assert explainer.explain(pictures[0], 1, verify=True).passes.run == counter.pictures == plain + 23


def test_views_and_bundles_get_one_verdict_on_their_mean(tiny, pictures):
    explainer = Explainer([tiny.bundle, tiny.bundle], smooth=["flip"], chunk=4)
    calls = []
    found = explainer.explain(pictures[0], 1, verify=True, progress=lambda *call: calls.append(call))
    assert found.passes.run == 4 * (LIVE + 4) + 23
    assert calls[-1] == (found.passes.run, found.passes.run)
    wanted = Explainer(tiny.bundle).explain(pictures[0], 1, verify=True).verdict
    assert found.verdict.numbers["flip"] == pytest.approx(wanted.numbers["flip"], abs=1e-6)
    assert found.verdict.figures["map"] != wanted.figures["map"]


def test_top_classes_and_thresholds_are_verified(tiny, pictures):
    found = Explainer(tiny.bundle).explain_batch(pictures[:1], top=2, verify=True)
    assert [e.verdict is not None for e in found] == [True, True]
    chances = probabilities(found[0].logits, "softmax")
    lower = found[1].verdict
    assert not lower.stable
    assert any(f"not the model's top class (probability {np.sort(chances)[-2]:.2g})" in r for r in lower.reasons)


@pytest.mark.parametrize("ending", ["Sigmoid", "Softmax"])
def test_only_a_softmax_has_one_right_class(make_tiny, pictures, ending):
    """The labels of a sigmoid do not exclude each other."""
    explainer = Explainer(make_tiny(ending=ending).bundle)
    verdicts = [e.verdict for e in explainer.explain_batch(pictures[:1], top=2, verify=True)]
    assert any("top class" in r for r in verdicts[1].reasons) == (ending == "Softmax")


def test_values_of_a_regression_are_verified_by_their_change(tiny, tmp_path, pictures):
    export_model(tiny.bundle.parent / "tiny.onnx", tmp_path / "b.fcam", layer="layer", ending="value")
    found = Explainer(tmp_path / "b.fcam").explain(pictures[0], 1, verify=True)
    assert found.passes.run == PASSES
    assert all(np.isfinite(found.verdict.numbers[name]) for name in ("support", "advantage", "lead"))
    assert "probability" not in found.verdict.line


def test_a_device_leaves_verified_maps_to_the_host(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    assert explainer.pipeline.engine_for(["fusion_cam"]) is explainer.pipeline.preferred
    assert explainer.pipeline.engine_for(["fusion_cam"], verify=True) is not explainer.pipeline.preferred
    found, wanted = (e.explain(pictures[0], 1, verify=True) for e in (explainer, Explainer(tiny.bundle)))
    assert found.verdict.reasons == wanted.verdict.reasons
    assert found.passes == wanted.passes


def test_maps_of_the_built_in_model_are_evidence_and_those_of_shuffled_weights_are_not(shapes, shuffled):
    scenes = [draw_scene(seed).image for seed in SCENES]
    names = [[e.verdict.name for e in Explainer(b).explain_batch(scenes, verify=True)] for b in (shapes, shuffled)]
    assert names[0].count("supported") >= 3
    assert "unsupported" not in names[0]
    assert "supported" not in names[1]


def test_an_int8_bundle_is_verified_by_its_float32_graph(tiny_int8, relayed, pictures):
    """Else a verdict would be on the rounding."""
    explainer, relays = relayed(tiny_int8)
    sizes = {"explain": [], "score": []}
    for name, relay in (("explain", relays.explain), ("score", relays.score)):

        def run(outputs, feeds, *options, session=relay.session, seen=sizes[name]):
            seen.append(max(len(array) for array in feeds.values()))
            return session.run(outputs, feeds, *options)

        relay.session = SimpleNamespace(run=run)
    found = explainer.explain(pictures[0], 1, verify=True)
    assert sum(sizes["score"]) == LIVE
    again = 5  # channels, half of the live ones
    # The picture, the mirrored one, steps 3 and 4, heavy channels, and the verdict.
    assert sum(sizes["explain"]) == 2 + 4 + again + 23
    assert found.passes.run == PASSES + again
