"""Several looks at a picture, whose maps are averaged: layers and views; and classes chosen by their probability."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.smoothing import NOISY, view_count, views

METHODS = ("fusion_cam", "layer_cam", "score_cam", "recipro_cam")


def unit(m):
    return (m - m.min()) / np.ptp(m)


@pytest.fixture
def layers(tiny, tmp_path):
    """The tiny network by its last layer, and by the one before."""
    source, other = tiny.bundle.parent / "tiny.onnx", tmp_path / "other.fcam"
    preprocessing = Explainer(tiny.bundle).manifest.preprocessing.model_dump(exclude={"origin"})
    assert export_model(source, other, layer="m1", preprocessing=preprocessing).layer.shape[1:] == (12, 16)
    return tiny.bundle, other


def test_maps_of_several_layers_are_averaged(layers, pictures):
    together = Explainer(layers, methods=METHODS).explain(pictures[0], 1)
    apart = [Explainer(b, methods=METHODS).explain(pictures[0], 1) for b in layers]
    for method in METHODS:
        wanted = unit(np.mean([e.maps[method] for e in apart], axis=0))
        np.testing.assert_allclose(together.maps[method], wanted, atol=1e-5)
    assert together.passes.run == sum(e.passes.run for e in apart)
    assert together.passes.channels == sum(e.passes.channels for e in apart)


def test_one_bundle_in_a_list_is_that_bundle(tiny, pictures):
    one, listed = (Explainer(b).explain(pictures[0]) for b in (tiny.bundle, [tiny.bundle]))
    np.testing.assert_array_equal(one.maps["fusion_cam"], listed.maps["fusion_cam"])


def test_bundles_must_be_of_one_model(make_tiny, tiny, tmp_path):
    softmax = make_tiny(ending="Softmax")
    with pytest.raises(UsageError, match="the bundles differ in ending"):
        Explainer([tiny.bundle, softmax.bundle])
    other = make_tiny(zero=(2,))
    with pytest.raises(UsageError, match="the bundles are of different models"):
        Explainer([tiny.bundle, other.bundle])
    with pytest.raises(UsageError, match="no bundle given"):
        Explainer([])


def test_a_mirrored_view_is_turned_back(tiny, pictures):
    x = pictures[0]
    smooth = Explainer(tiny.bundle, methods=METHODS, smooth=["flip"]).explain(x, 1)
    plain = Explainer(tiny.bundle, methods=METHODS)
    mirrored = plain.explain(np.ascontiguousarray(x[..., ::-1]), 1)
    for method, m in plain.explain(x, 1).maps.items():
        np.testing.assert_allclose(smooth.maps[method], unit((m + mirrored.maps[method][:, ::-1]) / 2), atol=1e-6)


def test_noise_is_the_same_every_time(tiny, pictures):
    explainer = Explainer(tiny.bundle, methods=["grad_cam"], smooth=["noise"])
    first, second = (explainer.explain(pictures[0], 1).maps["grad_cam"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    plain = Explainer(tiny.bundle, methods=["grad_cam"]).explain(pictures[0], 1)
    assert not np.array_equal(first, plain.maps["grad_cam"])


@pytest.mark.parametrize(
    ("smooth", "count"), [((), 1), (("flip",), 2), (("noise",), 1 + NOISY), (("flip", "noise"), 2 + 2 * NOISY)]
)
def test_views(pictures, smooth, count):
    x = pictures[0]
    found = list(views(x, smooth))
    assert len(found) == view_count(smooth) == count
    assert found[0].x is x
    for view in found:
        assert view.x.dtype == np.float32
        assert np.abs(view.back(view.x) - x).mean() < 0.12 * np.ptp(x)


def test_passes_and_progress_are_those_of_all_views(tiny, pictures, counted):
    explainer, counter = counted(tiny.bundle, methods=["score_cam"], smooth=["flip"])
    calls = []
    found = explainer.explain(pictures[0], 1, progress=lambda *call: calls.append(call))
    assert counter.pictures == found.passes.run == calls[-1][0] == calls[-1][1] == 2 * 10
    assert calls == sorted(calls)


@pytest.mark.parametrize("wrong", [["blur"], "flip", None, 5, [3]])
def test_a_smoothing_that_there_is_not_is_refused(tiny, wrong):
    with pytest.raises(UsageError, match=r"no smoothing|smooth must be a list"):
        Explainer(tiny.bundle, smooth=wrong)


def test_the_top_class_of_the_picture_goes_for_its_views(tiny, pictures):
    for x in pictures:
        top = Explainer(tiny.bundle, methods=["grad_cam"]).explain(x).class_index
        assert Explainer(tiny.bundle, methods=["grad_cam"], smooth=["flip", "noise"]).explain(x).class_index == top


def test_the_most_probable_classes(tiny, pictures):
    explainer = Explainer(tiny.bundle)
    found = explainer.explain_batch(pictures[:2], top=3)
    assert len(found) == 6
    for some in (found[:3], found[3:]):
        chances = [e.probability for e in some]
        assert chances == sorted(chances, reverse=True)
        assert len({e.class_index for e in some}) == 3
        assert some[0].passes == some[2].passes
    wanted = explainer.explain(pictures[0], found[1].class_index)
    np.testing.assert_allclose(found[1].maps["fusion_cam"], wanted.maps["fusion_cam"], atol=1e-6)


def test_classes_above_a_probability(make_tiny, oracle, pictures):
    made = make_tiny(ending="Sigmoid")
    for least in (0.0, 0.3, 0.5, 1.0):
        for x in pictures:
            chances = probabilities(oracle(made.bundle).logits(x), "sigmoid")
            found = Explainer(made.bundle, methods=["grad_cam"]).explain_batch([x], above=least)
            assert sorted(e.class_index for e in found) == np.flatnonzero(chances >= least).tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top must be a whole number, 1 to 5"),
        ({"top": 6}, "top must be a whole number, 1 to 5"),
        ({"top": True}, "top must be"),
        ({"above": 1.5}, "above must be a probability"),
        ({"above": "0.5"}, "above must be a probability"),
        ({"above": float("nan")}, "above must be a probability"),
        ({"top": 2, "above": 0.5}, "give one of class_index, top and above"),
        ({"class_index": 1, "top": 2}, "give one of class_index, top and above"),
    ],
)
def test_senseless_choices_are_refused(tiny, pictures, options, message):
    with pytest.raises(UsageError, match=message):
        Explainer(tiny.bundle).explain_batch([pictures[0]], **options)


def test_an_overlay_shows_the_mean_of_all_looks(tiny, layers, pictures):
    for explainer in (Explainer(layers), Explainer(tiny.bundle, smooth=["flip"])):
        found = explainer.overlay(pictures[0], 1, method="layer_cam")
        one = Explainer(tiny.bundle, methods=["layer_cam"]).overlay(pictures[0], 1, method="layer_cam")
        assert found.shape == one.shape == (24, 32, 3)
        assert not np.array_equal(found, one)


def test_work_that_asks_for_more_pictures_after_the_explanation(tiny, oracle, pictures):
    """What an evaluation does: on any engine, whatever makes its maps."""
    explainer = Explainer(tiny.bundle, kernels=False)

    def work():
        (explanation,) = yield from explainer.pipeline.task(ExplainRequest(pictures[0], [1]))
        logits = yield from MaskedPasses(pictures[0], Clock()).of_pictures(3, lambda i: pictures[i])
        return explanation, logits

    ((explanation, logits),) = explainer.pipeline.run([work()], explainer.methods)
    assert explanation.maps["fusion_cam"].any()
    np.testing.assert_allclose(logits, [oracle(tiny.bundle).logits(x) for x in pictures[:3]], atol=1e-5)


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)])
def test_one_bundle_without_a_gradient_is_enough_to_have_none(tiny, tmp_path, pictures, order):
    source, other = tiny.bundle.parent / "tiny.onnx", tmp_path / "other.fcam"
    preprocessing = Explainer(tiny.bundle).manifest.preprocessing.model_dump(exclude={"origin"})
    export_model(source, other, gradient=False, preprocessing=preprocessing)
    explainer = Explainer([tiny.bundle, other][order], methods=["score_cam"])
    assert "no_gradient" in explainer.explain(pictures[0]).flags
    with pytest.raises(UsageError, match="grad_cam needs a gradient"):
        explainer.overlay(pictures[0], method="grad_cam")


@pytest.mark.parametrize("wrong", [None, 5, b"x", [None], ["a.fcam", 3]])
def test_what_is_no_path_is_no_bundle(wrong):
    with pytest.raises(UsageError, match="a bundle is the path of a folder"):
        Explainer(wrong)
