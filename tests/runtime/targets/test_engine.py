"""Targets through all parts of the engine: views, bundles, budgets, precisions, verdicts, batches, processes."""

import asyncio
import pickle
from dataclasses import replace

import numpy as np
import pytest

from fusioncam import AsyncExplainer, Explainer, Like, Region, UsageError, Value, difference
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.engine.host.engine import HostEngine

METHODS = ("fusion_cam", "grad_cam", "score_cam")
TASKS = ("segment", "sigmoid", "heat", "values", "embed")


@pytest.fixture(scope="module")
def mask():
    inside = np.zeros((24, 32), bool)
    inside[3:15, 2:17] = True
    return inside


@pytest.fixture
def target(mask):
    """One target of each task that is not the same in a mirrored picture."""
    return {
        "segment": Region(1, mask),
        "sigmoid": Region(2, mask, peak=True),
        "heat": Region(1, mask),
        "values": Value(2, down=True),
        "embed": Like(np.arange(7.0) - 3),
    }


def assert_same(found, wanted, tolerance=1e-6):
    assert (found.class_index, found.title) == (wanted.class_index, wanted.title)
    assert found.score == pytest.approx(wanted.score, abs=1e-5)
    for method, saliency in wanted.maps.items():
        np.testing.assert_allclose(found.maps[method], saliency, atol=tolerance, err_msg=method)


def likeness(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


@pytest.mark.parametrize("name", TASKS)
def test_the_mirrored_picture_has_the_mirrored_region(name, made, target, mask, pictures):
    asked, x = target[name], pictures[0]
    turned = replace(asked, mask=mask[:, ::-1]) if isinstance(asked, Region) else asked
    plain = Explainer(made(name).bundle, methods=["grad_cam"])
    own, other = plain.explain(x, target=asked), plain.explain(np.ascontiguousarray(x[..., ::-1]), target=turned)
    mean = (own.maps["grad_cam"].astype(np.float64) + other.maps["grad_cam"][:, ::-1]) / 2
    mean = (mean - mean.min()) / np.ptp(mean)
    found = Explainer(made(name).bundle, methods=["grad_cam"], smooth=["flip"]).explain(x, target=asked)
    np.testing.assert_allclose(found.maps["grad_cam"], mean, atol=1e-5)
    assert found.score == pytest.approx(own.score)


def test_bundles_of_two_layers(made, target, pictures):
    first, second = made("segment").bundle, made("segment", layer="/body/body.3/Relu_output_0").bundle
    both, *alone = (Explainer(b, methods=["grad_cam"]) for b in ([first, second], first, second))
    found, *parts = (e.explain(pictures[0], target=target["segment"]).maps["grad_cam"] for e in (both, *alone))
    mean = np.mean(parts, axis=0, dtype=np.float64)
    np.testing.assert_allclose(found, (mean - mean.min()) / np.ptp(mean), atol=1e-5)
    assert not np.allclose(*parts, atol=0.01)
    with pytest.raises(UsageError, match="the bundles differ in task"):
        Explainer([first, made("classes").bundle])


@pytest.mark.parametrize("name", TASKS)
def test_tasks_of_several_pictures_share_runs(name, made, target, pictures):
    explainer = Explainer(made(name).bundle, methods=METHODS, chunk=5)
    asked = [target[name], target[name]]
    if name == "segment":
        asked[1] = Region(0, np.ones((24, 32)))
    together = explainer.explain_batch(pictures, target=[asked, asked[1], asked])
    alone = [explainer.explain(x, target=t) for x, t in zip([0, 0, 1, 2, 2], [*asked, asked[1], *asked], strict=True)
             for x in [pictures[x]]]  # fmt: skip
    for found, wanted in zip(together, alone, strict=True):
        assert_same(found, wanted, 1e-4)


@pytest.mark.parametrize("name", ["segment", "embed"])
@pytest.mark.parametrize("budget", ["auto", 40, 0.3, "30s"])
def test_budgets_guess_scores_of_targets(name, budget, made, pictures, target):
    many = made("many") if name == "segment" else made(name)
    asked = target["segment"] if name == "segment" else target[name]
    exact, found = (
        Explainer(many.bundle, methods=METHODS, budget=b).explain(pictures[0], target=asked) for b in ("exact", budget)
    )
    assert found.passes.run <= exact.passes.run
    if budget == 40 and name == "segment":
        assert found.passes.run == 40
    assert likeness(found.maps["score_cam"], exact.maps["score_cam"]) > 0.9


@pytest.mark.parametrize("precision", ["int8", "fp16"])
@pytest.mark.parametrize("name", ["segment", "sigmoid", "heat", "embed"])
def test_rounded_scores(name, precision, made, target, pictures):
    calibrate = {"calibrate": lambda prep: iter(pictures)} if precision == "int8" else {}
    exact = Explainer(made(name).bundle, methods=METHODS).explain(pictures[0], target=target[name])
    rounded = made(name, precision=precision, accept_drift=True, **calibrate)
    found = Explainer(rounded.bundle, methods=METHODS).explain(pictures[0], target=target[name])
    assert found.score == pytest.approx(exact.score, abs=1e-5)  # by the explain graph, in float32
    assert likeness(found.maps["score_cam"], exact.maps["score_cam"]) > 0.95


@pytest.mark.parametrize("name", TASKS)
def test_without_a_gradient(name, made, target, pictures):
    wanted = Explainer(made(name).bundle, methods=["score_cam"]).explain(pictures[0], target=target[name])
    bundle = made(name, gradient=False).bundle
    assert_same(Explainer(bundle, methods=["score_cam"]).explain(pictures[0], target=target[name]), wanted)


@pytest.mark.parametrize("name", TASKS)
def test_verdicts(name, made, target, pictures):
    found = Explainer(made(name).bundle, methods=METHODS).explain(pictures[0], target=target[name], verify=True)
    assert found.verdict.numbers["flip"] is not None
    figures = found.verdict.figures["map"]
    assert np.isfinite([figures[n] for n in ("insertion", "deletion", "support")]).all()


def test_the_verdict_on_a_probability_is_by_it(made, target, pictures):
    """Insertion of the whole picture ends at its confidence: the mean of both ends is between them."""
    found = Explainer(made("segment").bundle, methods=["grad_cam"]).explain(
        pictures[0], target=target["segment"], verify=True
    )
    chance = found.probability < 0.1
    assert chance == any("probability" in reason for reason in found.verdict.reasons)


@pytest.mark.parametrize("smooth", [(), ("flip",)])
def test_preliminary_maps(smooth, made, target, pictures):
    seen = []
    explainer = Explainer(made("segment").bundle, methods=METHODS, smooth=smooth)
    found = explainer.explain(pictures[0], target=target["segment"], progress_maps=seen.append)
    assert seen
    assert {e.title for e in seen} == {found.title}
    assert all(e.target.same_as(found.target) for e in seen)


@pytest.mark.parametrize("name", TASKS)
def test_other_processes_and_asyncio(name, made, target, pictures):
    explainer = Explainer(made(name).bundle, methods=METHODS)
    wanted = explainer.explain(pictures[0], target=target[name])
    again = pickle.loads(pickle.dumps(explainer))
    assert_same(again.explain(pictures[0], target=target[name]), wanted, 0)

    async def run():
        async with AsyncExplainer(made(name).bundle, methods=METHODS) as own:
            found = [e async for e in own.explain_progressively(pictures[0], target=target[name])]
            return await own.explain(pictures[0], target=target[name]), found[-1]

    for found in asyncio.run(run()):
        assert_same(found, wanted, 1e-5)


def test_an_overlay_of_a_target(made, target, pictures, photo):
    explainer = Explainer(made("segment").bundle, methods=["grad_cam"], smooth=["flip"])
    points = Region(point=(40, 30))
    for opened in (Explainer(made("segment").bundle), explainer):
        drawn = opened.overlay(photo, target=points, method="grad_cam")
        assert drawn.shape == (24, 32, 3)
        assert (drawn != opened.overlay(photo, target=target_of(opened, photo), method="grad_cam")).any()


def target_of(explainer, photo):
    own = explainer.explain(photo, target=Region(point=(40, 30))).class_index
    return next(t.target for t in explainer.targets(photo) if t.target.class_ != own)


def test_differences_of_targets(made, mask, pictures):
    explainer = Explainer(made("segment").bundle, methods=["grad_cam"])
    here, there, again = explainer.explain_batch(
        [pictures[0]], target=[[Region(1, mask), Region(1, ~mask), Region(1, mask)]]
    )
    found = difference(here, there)
    np.testing.assert_array_equal(found.maps["grad_cam"], here.maps["grad_cam"] - there.maps["grad_cam"])
    assert found.summary()["versus"]["target"]["kind"] == "region"
    with pytest.raises(UsageError, match="cannot be compared with itself"):
        difference(here, again)
    values = Explainer(made("values").bundle, methods=["grad_cam"])
    up, down = values.explain_batch([pictures[0]], target=[[Value(1), Value(1, down=True)]])
    assert difference(up, down).title == "What speaks for value 1, what for value 1, down"


def test_conditions_are_about_the_confidence(made, target, pictures):
    pipeline = Explainer(made("segment").bundle, methods=["grad_cam"]).pipeline
    seen = []

    def never(class_index, probability):
        seen.append((class_index, probability))
        return False

    request = ExplainRequest(pictures[0], [target["segment"]], ("grad_cam",), condition=never)
    ((found,),) = pipeline.run([pipeline.task(request)], ("grad_cam",))
    assert found.flags == ("not_explained",)
    assert seen == [(1, found.probability)]


@pytest.mark.parametrize("name", TASKS)
def test_kernels_serve_classes_only(name, made, on_device_of, target, pictures):
    wanted = Explainer(made(name).bundle, methods=METHODS).explain(pictures[0], target=target[name])
    explainer = on_device_of(made(name).bundle)
    assert isinstance(explainer.pipeline.preferred, HostEngine)
    assert_same(explainer.explain(pictures[0], target=target[name]), wanted, 1e-5)


@pytest.fixture
def on_device_of(host_device, injected):
    """Opens an Explainer as on a GPU."""

    def open_explainer(bundle):
        with injected(device=host_device):
            return Explainer(bundle, methods=METHODS)

    return open_explainer


def test_a_single_output_has_a_class_for_either_direction_on_a_gpu(made, on_device_of, pictures):
    explainer = on_device_of(made("one").bundle)
    assert not isinstance(explainer.pipeline.preferred, HostEngine)
    host = Explainer(made("one").bundle, methods=METHODS)
    for asked in (Value(0), Value(0, down=True)):
        assert_same(explainer.explain(pictures[0], target=asked), host.explain(pictures[0], target=asked), 1e-3)
