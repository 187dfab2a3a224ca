"""What the GPU has no kernels for is made beside, by an engine on the same hardware."""

import numpy as np

from fusioncam import Explainer
from fusioncam.runtime.methods import EVERY, METHODS

TOLERANCE = 2e-6


def test_methods_without_kernels_are_made_beside(tiny, on_device, pictures, assert_equal):
    # The standard error of RISE is not the same to the last digit with other chunks, see test_rise.py.
    methods = [*(m for m in EVERY if m != "rise"), "fusion_cam:layer_cam+group_cam:20"]
    found = on_device(tiny.bundle, methods, chunk=5).explain_batch(pictures[:2], [[1, 2], [-1]])
    wanted = Explainer(tiny.bundle, methods=methods).explain_batch(pictures[:2], [[1, 2], [-1]])
    for f, w in zip(found, wanted, strict=True):
        assert_equal(f, w)


def test_methods_with_kernels_open_nothing_beside(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    explainer.explain(pictures[0])
    assert explainer.pipeline.engine_for(METHODS) is explainer.pipeline.preferred
    assert explainer.pipeline.engine_for(["layer_cam"]) is not explainer.pipeline.preferred


def test_the_engine_says_which_methods_it_supports(tiny, on_device):
    engine = on_device(tiny.bundle).pipeline.preferred
    for method in ("layer_cam", "score_cam_corners", "group_cam", "rise", "union_cam", "fusion_cam:grad_cam+group_cam"):
        assert not engine.supports([method])
        assert not engine.supports([*METHODS, method])
    assert engine.supports(METHODS)


def test_smoothed_maps_of_a_device(tiny, on_device, pictures, assert_equal):
    explainer = on_device(tiny.bundle, smooth=["flip"])
    assert_equal(explainer.explain(pictures[0], 1), Explainer(tiny.bundle, smooth=["flip"]).explain(pictures[0], 1))


def test_most_probable_classes_of_a_device(tiny, on_device, pictures, assert_equal):
    found, wanted = (e.explain_batch(pictures[:2], top=3) for e in (on_device(tiny.bundle), Explainer(tiny.bundle)))
    for f, w in zip(found, wanted, strict=True):
        assert_equal(f, w)


def test_a_progress_callback_may_ask_for_a_method_without_a_kernel(tiny, on_device, pictures):
    explainer, found = on_device(tiny.bundle), []

    def report(done, every):
        if not found:
            found.append(explainer.overlay(pictures[1], 1, method="layer_cam"))

    explainer.explain(pictures[0], 1, progress=report)
    wanted = Explainer(tiny.bundle, methods=["layer_cam"]).overlay(pictures[1], 1, method="layer_cam")
    np.testing.assert_array_equal(found[0], wanted)
