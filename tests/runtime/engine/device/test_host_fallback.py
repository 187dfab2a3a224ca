"""What the GPU has no kernels for is made beside, by an engine on the same hardware."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.engine.recipe import take_steps
from fusioncam.runtime.engine.scheduler import Clock, finished
from fusioncam.runtime.methods import EVERY

TOLERANCE = 2e-6


def assert_equal(found, wanted, tolerance=TOLERANCE):
    assert (found.class_index, found.flags, found.passes) == (wanted.class_index, wanted.flags, wanted.passes)
    assert found.probability == pytest.approx(wanted.probability, abs=1e-6)
    assert list(found.maps) == list(wanted.maps)
    for method, m in wanted.maps.items():
        assert found.maps[method].dtype == np.float32
        np.testing.assert_allclose(found.maps[method], m, rtol=0, atol=tolerance, err_msg=method)


def test_methods_without_kernels_are_made_beside(tiny, on_device, pictures):
    methods = [*EVERY, "fusion_cam:layer_cam+group_cam:20"]
    found = on_device(tiny.bundle, methods, chunk=5).explain_batch(pictures[:2], [[1, 2], [-1]])
    wanted = Explainer(tiny.bundle, methods=methods).explain_batch(pictures[:2], [[1, 2], [-1]])
    for f, w in zip(found, wanted, strict=True):
        assert_equal(f, w)


def test_methods_with_kernels_open_nothing_beside(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    explainer.explain(pictures[0])
    assert explainer._engine._beside == []


def test_a_step_without_a_kernel_says_where_to_go(tiny, on_device, pictures):
    engine = on_device(tiny.bundle)._engine
    for method in ("layer_cam", "score_cam_corners", "group_cam", "union_cam", "fusion_cam:grad_cam+group_cam"):
        with engine.look(pictures[0], [1], Clock()) as steps, pytest.raises(UsageError, match="made by kernels"):
            finished(take_steps(steps, [method]))


def test_smoothed_maps_of_a_device(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle)
    explainer._smooth = ("flip",)
    assert_equal(explainer.explain(pictures[0], 1), Explainer(tiny.bundle, smooth=["flip"]).explain(pictures[0], 1))


def test_most_probable_classes_of_a_device(tiny, on_device, pictures):
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
