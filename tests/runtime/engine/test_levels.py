"""Detectors of several levels: maps against torch in float64, the levels that make them, their passes and budgets."""

import asyncio

import numpy as np
import pytest
import torch

from fusioncam import AsyncExplainer, Box, Detections, Explainer, UsageError
from fusioncam.kernels import reference
from fusioncam.kernels.boxes import overlaps
from fusioncam.kernels.cam_methods import gradient_map
from fusioncam.kernels.reference import unit
from fusioncam.kernels.rise import RandomMasks
from fusioncam.runtime.budget import checked_budget
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.photos.model_input import unpreprocess
from fusioncam.runtime.picture import DEFAULT_COLORMAP, color_table
from fusioncam.runtime.probes.likeness import correlation

METHODS = ("fusion_cam", "grad_cam", "score_cam")
ALL = 0.1  # conf of a detector that finds something everywhere


@pytest.fixture(scope="module")
def x(detectors):
    return detectors.blobs(3)


@pytest.fixture(scope="module")
def explainer(small_detector):
    return Explainer(small_detector.bundle, methods=METHODS)


@pytest.fixture(scope="module")
def of_levels(explainer, detectors, x):
    """The best detection of each level."""
    found = explainer.detections(x, conf=ALL, iou=0.99)
    return [next(d for d in found if detectors.level_of(d.anchor) == level) for level in range(3)]


@pytest.fixture
def ran(monkeypatch):
    """Collects the numbers of pictures that went through the score graph."""
    counts = []
    scored = Scorer._scored
    monkeypatch.setattr(
        Scorer, "_scored", lambda self, feeds, parts: counts.append(parts[-1].rows.stop) or scored(self, feeds, parts)
    )
    return counts


def asked_for(detection, **options):
    return Box(detection.class_index, detection.box, conf=ALL, **options)


@pytest.fixture
def wanted(oracle, small_detector, explainer, x):
    """Makes the maps of a detection by one level, as torch in float64 and the formulas give them."""

    def wanted(detection, level, by="score"):
        network, box, c = small_detector.network, detection.box_on_input, detection.class_index
        own, blank = (explainer.pipeline.anchors(image).form[detection.anchor] for image in (x, x * 0))
        edges, logit = (own - blank)[:4].astype(np.float64), float(own[4 + c] - blank[4 + c])
        weights = {
            "score": [0, 0, 0, 0, 1],
            "box": [*edges / np.linalg.norm(edges), 0],
            "both": [*edges / (edges @ edges), 1 / abs(logit)],
        }[by]

        activations, gradient = network.evidence(x, level, detection.anchor, np.array(weights), c)
        counts = (gradient * activations).sum(axis=0).clip(0)  # a place counts by what it adds to the score

        class Network(oracle):
            def __init__(self):
                pass

            def logits(self, image):
                with torch.no_grad():
                    image = torch.from_numpy(np.asarray(image[None], np.float64))
                    return network.likeness(image, box, c, None if weights[4] else detection.anchor).numpy()

            def confidence(self, image, _):
                return float(self.logits(image)[0])

            def scores(self, image, c, _):
                return super().scores(image, c, activations)  # but masks are those of whole channels

        return Network().maps(x, 0, activations * counts / counts.max(), gradient)

    return wanted


def assert_maps(found, wanted):
    for method, saliency in wanted.items():
        np.testing.assert_allclose(found.maps[method], saliency, atol=1e-4, err_msg=method)


@pytest.mark.parametrize("by", ["score", "box", "both"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_detection_is_explained_by_its_own_level(level, by, explainer, of_levels, wanted, x):
    detection = of_levels[level]
    found = explainer.explain(x, target=asked_for(detection, by=by))
    assert_maps(found, wanted(detection, level, by))
    assert found.layers == (explainer.manifest.layers[level].name,)
    np.testing.assert_allclose(found.box, detection.box, atol=1e-4)
    assert found.by == by


def test_the_mean_of_the_levels(explainer, of_levels, wanted, x):
    detection = of_levels[2]
    found = explainer.explain(x, target=asked_for(detection), levels="mean")
    assert found.layers == tuple(layer.name for layer in explainer.manifest.layers)
    each = [wanted(detection, level) for level in range(3)]
    mean = {m: np.mean([maps[m] for maps in each], axis=0) for m in METHODS}
    assert_maps(found, {m: (a - a.min()) / np.ptp(a) for m, a in mean.items()})
    first = explainer.explain(x, target=asked_for(of_levels[0]), levels="mean")  # which later levels never reach
    assert first.layers == (explainer.manifest.layer.name,)


def test_maps_of_several_levels_are_shown_while_they_are_made(explainer, of_levels, x):
    """One target by the mean of three levels; and three targets, each by a level of its own."""
    for targets, levels in (([of_levels[2]], "mean"), (of_levels, "own")):
        asked, seen = [explainer.pipeline.check_target(asked_for(d)) for d in targets], []
        request = ExplainRequest(x, asked, METHODS, levels=levels, progress_maps=seen.append)
        (found,) = explainer.pipeline.run([explainer.pipeline.task(request)], METHODS)
        runs = [explanations[0].passes.run for explanations in seen]
        assert runs == sorted(runs)
        assert runs[0] == 0
        for n, whole in enumerate(found):
            first, last = seen[0][n], seen[-1][n]
            np.testing.assert_allclose(first.maps["grad_cam"], whole.maps["grad_cam"], atol=1e-6)
            np.testing.assert_allclose(last.maps["score_cam"], whole.maps["score_cam"], atol=1e-6)
            assert "preliminary" in last.flags


def test_levels_of_an_overlay_and_of_an_async_explainer(small_detector, explainer, of_levels, x):
    pictures = [explainer.overlay(x, target=asked_for(of_levels[2]), levels=which) for which in ("own", "mean")]
    asked = explainer.explain(x, target=asked_for(of_levels[2]), levels="mean")
    seen = unpreprocess(x, explainer.manifest.preprocessing)
    wanted = reference.overlay(seen, asked.maps["fusion_cam"], color_table(DEFAULT_COLORMAP), 0.7)
    assert not np.array_equal(*pictures)
    np.testing.assert_array_equal(pictures[1], wanted)

    async def mean():
        async with AsyncExplainer(small_detector.bundle, methods=METHODS) as own:
            with pytest.raises(UsageError, match="levels is 'own' or 'mean', not 'all'"):
                await own.explain(x, levels="all")
            steps = own.explain_progressively(x, target=asked_for(of_levels[2]), levels="mean")
            return await own.explain(x, target=asked_for(of_levels[2]), levels="mean"), [e async for e in steps][-1]

    for found in asyncio.run(mean()):
        assert found.layers == asked.layers
        assert_maps(found, asked.maps)


def test_targets_of_all_levels_in_one_request(explainer, of_levels, ran, x):
    targets = [asked_for(d) for d in (of_levels[2], of_levels[0], of_levels[1], of_levels[0])]
    together = explainer.explain_batch([x], target=[targets])
    channels = [layer.shape[0] for layer in explainer.manifest.layers]
    # Of each level: its channels, the blank picture, and x * D, x * R and x * U of each target.
    assert sum(ran) == sum(channels) + 3 + 3 * 4
    assert {e.passes.run for e in together} == {sum(ran)}
    assert {e.passes.channels for e in together} == {sum(channels)}
    for target, found in zip(targets, together, strict=True):
        own = explainer.explain(x, target=target)
        assert found.layers == own.layers
        assert_maps(found, own.maps)


@pytest.mark.parametrize("methods", [["rise"], ["grad_cam", "rise"]])
def test_d_rise_passes_its_masks_once_for_all_levels(methods, small_detector, of_levels, ran, oracle, x):
    with Explainer(small_detector.bundle, methods=methods, budget=0.02) as explainer:
        together = explainer.explain_batch([x], target=[[asked_for(d) for d in reversed(of_levels)]])
    assert sum(ran) == together[0].passes.run == 100  # of 5000
    masks = [RandomMasks((96, 96), 16).mask(n) for n in range(100)]
    for detection, found in zip(reversed(of_levels), together, strict=True):

        class Likeness(oracle):
            def __init__(self, detection):
                self.asked = detection.box_on_input, detection.class_index

            def confidence(self, image, _):
                with torch.no_grad():
                    return float(small_detector.network.likeness(torch.from_numpy(image[None]).double(), *self.asked))

        np.testing.assert_allclose(found.maps["rise"], Likeness(detection).rise(x, 0, masks), atol=1e-4)


def test_a_sum_of_detections(explainer, detectors, x):
    found = explainer.explain(x, target=Detections(conf=0.7))
    parts = explainer.detections(x, conf=0.7)
    levels = sorted({detectors.level_of(d.anchor) for d in parts})
    assert found.layers == tuple(explainer.manifest.layers[n].name for n in levels)
    assert found.score == pytest.approx(sum(d.score for d in parts), abs=1e-4)
    assert found.probability == pytest.approx(found.score / len(parts))
    np.testing.assert_allclose(found.boxes, [d.box for d in parts], atol=1e-4)
    for saliency in found.maps.values():
        assert saliency.max() == pytest.approx(1)


def test_gradients_alone_take_no_masked_pass(small_detector, of_levels, ran, detectors, x):
    explainer = Explainer(small_detector.bundle, methods=["layer_cam"])
    passes = []
    session = explainer.pipeline.preferred.explain
    explainer.pipeline.preferred.explain = _Counted(session, passes)
    for level, detection in enumerate(of_levels):
        found = explainer.explain(x, target=asked_for(detection))
        activations, gradient = small_detector.network.evidence(
            x, level, detection.anchor, np.array([0, 0, 0, 0, 1.0]), detection.class_index
        )
        np.testing.assert_allclose(
            found.maps["layer_cam"], gradient_map("layer_cam", activations, gradient, x.shape[1:]), atol=1e-5
        )
    assert not ran
    # The picture is read to find the detection, then passed once with its gradient.
    names = [f"{kind}{level}" for kind in ("activations", "gradients") for level in ("", "_1", "_2")]
    assert passes == [["detections"], ["confidences", *names]] * 3


class _Counted:
    def __init__(self, session, passes):
        self._session, self._passes = session, passes

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, outputs, *arguments):
        self._passes.append([*outputs])
        return self._session.run(outputs, *arguments)


def test_budgets_are_shared_by_levels(explainer, of_levels, ran, x):
    pipeline, target = explainer.pipeline, asked_for(of_levels[2])
    exact = explainer.explain(x, target=target, levels="mean")
    channels = [layer.shape[0] for layer in explainer.manifest.layers]
    beside = 3 * (1 + 3)  # of each level the blank picture, and x * D, x * R and x * U

    def run(budget, **options):
        ran.clear()
        asked = pipeline.check_target(target)
        request = ExplainRequest(x, [asked], METHODS, checked_budget(budget), levels="mean", **options)
        ((found,),) = pipeline.run([pipeline.task(request)], METHODS)
        assert found.passes.run == sum(ran)
        return found

    seen = []
    assert run(30, progress=lambda *counts: seen.append(counts)).passes.run == 30
    assert seen[-1] == (30, 30)
    assert run(60, verify=True).passes.run == 60
    for enough in (sum(channels) + beside, "auto", "60s"):  # of so few channels, auto guesses none
        assert_maps(run(enough), exact.maps)
    assert run(0.5).passes.run == sum(channels) / 2 + beside
    with pytest.raises(UsageError, match=r"a budget of 14 passes is too small: 15 are needed"):
        run(14)
    request = ExplainRequest(x, [pipeline.check_target(target)], ("group_cam",), 12, levels="mean")
    with pytest.raises(UsageError, match=r"passes, the share of one of 3 levels, is too small: \d+ are needed"):
        list(pipeline.run([pipeline.task(request)], ("group_cam",)))


def test_a_mirrored_view_is_asked_for_the_same_detection(small_detector, explainer, x):
    plain = Explainer(small_detector.bundle, methods=["grad_cam"])
    image, width = np.ascontiguousarray(x[..., ::-1]), x.shape[2]
    found, turned = plain.detections(x, conf=ALL), plain.detections(image, conf=ALL)
    form = plain.pipeline.anchors(image).form

    def counterpart(detection):
        """The detection of its class that overlaps its mirrored box most, and whether another anchor fits better."""
        x1, y1, x2, y2 = detection.box_on_input
        box = np.array([width - x2, y1, width - x1, y2])
        least = min(explainer.manifest.detector.conf, detection.score / 2)
        own = [d for d in turned if d.class_index == detection.class_index and d.score >= least]
        shares = overlaps(box, np.array([d.box_on_input for d in own]))
        chances = 1 / (1 + np.exp(-form[:, 4 + detection.class_index]))
        same = own[int(shares.argmax())] if shares.max() >= 0.5 else None
        return same, same is not None and same.anchor != (overlaps(box, form[:, :4]) * chances).argmax()

    surest = [d for d in found if d.score > 0.4]
    moved = next(d for d in surest if counterpart(d)[1])  # D-RISE's similarity would take another anchor
    lost = next(d for d in surest if counterpart(d)[0] is None)
    targets = [asked_for(d) for d in (moved, lost)]
    smooth = Explainer(small_detector.bundle, methods=["grad_cam"], smooth=["flip"])
    own, mean = (e.explain_batch([x], target=[targets], verify=e is plain) for e in (plain, smooth))
    other = plain.explain(image, target=asked_for(counterpart(moved)[0])).maps["grad_cam"][:, ::-1]
    upright = own[0].maps["grad_cam"]
    np.testing.assert_allclose(mean[0].maps["grad_cam"], unit((upright + other.astype(float)) / 2), atol=1e-5)
    assert own[0].verdict.numbers["flip"] == pytest.approx(correlation(upright, other), abs=1e-6)
    assert own[1].verdict.numbers["flip"] is None
    assert any("the mirrored picture has no such detection" in reason for reason in own[1].verdict.reasons)
    assert not any("turn" in reason for reason in own[1].verdict.reasons if "unstable" in reason)
    assert ["lost_in_mirror" in e.flags for e in mean] == [False, True]
    np.testing.assert_allclose(mean[0].box, moved.box, atol=1e-3)


def test_boxes_are_in_pixels_of_the_photo(explainer):
    photo = np.random.default_rng(0).integers(0, 256, (40, 120, 3), np.uint8).repeat(2, 0)
    (detection, *_) = explainer.detections(photo, conf=ALL)
    found = explainer.explain(photo, target=Box(detection.class_index, detection.box, conf=ALL))
    np.testing.assert_allclose(found.box, detection.box, atol=1e-3)
    x1, y1, x2, y2 = detection.box_on_input  # where the photo has 96 x 64 pixels, with 16 of padding above
    corners = np.array([x1, y1 - 16, x2, y2 - 16]) * 120 / 96
    np.testing.assert_allclose(found.box, corners.clip(0, [120, 80, 120, 80]), atol=1e-3)


def test_a_choice_of_levels_that_there_is_not(explainer, x):
    with pytest.raises(UsageError, match="levels is 'own' or 'mean', not 'all'"):
        explainer.explain(x, levels="all")
