"""Maps that are shown while they are made, and change nothing."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.methods import METHODS


@pytest.fixture(scope="module")
def wide(make_tiny):
    return make_tiny(channels=200, zero=(1, 5, 77), constant=(3, 150))


def watched(explainer, *arguments, **options):
    """The preliminary explanations, and the explanation."""
    seen = []
    return seen, explainer.explain(*arguments, progress_maps=seen.append, **options)


def same(found, wanted):
    assert (found.passes, found.flags, found.class_index) == (wanted.passes, wanted.flags, wanted.class_index)
    assert list(found.maps) == list(wanted.maps)
    for method, m in wanted.maps.items():
        np.testing.assert_array_equal(found.maps[method], m)


@pytest.mark.parametrize("budget", ["exact", "auto", 50, 0.3])
def test_a_callback_changes_neither_maps_nor_passes(wide, counted, pictures, budget):
    explainer, counter = counted(wide.bundle, budget=budget)
    wanted = explainer.explain(pictures[0], 1)
    runs = list(counter.batches)
    seen, found = watched(explainer, pictures[0], 1)
    assert len(seen) >= 2
    assert counter.batches == runs * 2
    same(found, wanted)


def test_the_gradient_comes_at_once_and_then_better_and_better_scores(wide, pictures):
    exact = Explainer(wide.bundle).explain(pictures[0], 1)
    seen, found = watched(Explainer(wide.bundle, budget="auto"), pictures[0], 1)
    assert list(seen[0].maps) == ["grad_cam"]
    assert seen[0].passes.run == 0
    assert all({*s.maps} == {"grad_cam", "score_cam"} for s in seen[1:])
    runs = [s.passes.run for s in seen]
    assert runs == sorted({*runs})
    assert all(s.flags[-1] == "preliminary" for s in seen)
    assert "preliminary" not in found.flags
    likeness = [np.corrcoef(s.maps["score_cam"].ravel(), exact.maps["score_cam"].ravel())[0, 1] for s in seen[1:]]
    assert likeness[0] < likeness[-1] > 0.99
    assert seen[1].passes.error > seen[-1].passes.error
    for method, m in seen[-1].maps.items():
        np.testing.assert_array_equal(m, found.maps[method])


def test_what_there_is_to_show_of_other_methods(tiny, pictures):
    methods = ("fusion_cam:layer_cam+score_cam_corners", "group_cam")
    seen, _ = watched(Explainer(tiny.bundle, methods=methods), pictures[0], 1)
    assert list(seen[0].maps) == ["layer_cam"]
    assert {*seen[-1].maps} == {"layer_cam", "score_cam_corners"}
    assert watched(Explainer(tiny.bundle, methods=["grad_cam"]), pictures[0])[0] == []


def test_maps_of_views_are_means(tiny, pictures):
    explainer = Explainer(tiny.bundle, smooth=["flip"], methods=METHODS)
    seen, found = watched(explainer, pictures[0], 1)
    assert len(seen) == 4
    np.testing.assert_array_equal(seen[-1].maps["score_cam"], found.maps["score_cam"])
    assert seen[2].passes.run == seen[1].passes.run + 2 > 0  # the first view's last two came between


def test_several_classes_are_shown_together(tiny, pictures):
    pipeline, seen = Explainer(tiny.bundle).pipeline, []
    request = ExplainRequest(pictures[0], [1, 0], progress_maps=seen.append)
    list(pipeline.run([pipeline.task(request)], METHODS))
    assert [[e.class_index for e in explanations] for explanations in seen] == [[1, 0]] * 2


def test_a_photo_stays_a_photo(tiny):
    photo = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    seen, _ = watched(Explainer(tiny.bundle), photo)
    assert seen[0].on_photo("grad_cam").shape == (40, 30)


@pytest.mark.parametrize("after", [1, 2])
def test_an_error_of_the_callback_ends_the_explanation(wide, pictures, after):
    seen = []

    def fail(explanation):
        seen.append(explanation)
        if len(seen) == after:
            raise KeyError("mine")

    explainer = Explainer(wide.bundle, budget="auto")
    with pytest.raises(KeyError, match="mine"):
        explainer.explain(pictures[0], 1, progress_maps=fail)
    assert len(seen) == after
    same(explainer.explain(pictures[0], 1), Explainer(wide.bundle, budget="auto").explain(pictures[0], 1))


@pytest.mark.parametrize("budget", ["exact", "auto"])
def test_on_a_gpu(wide, on_device, pictures, budget):
    explainer = on_device(wide.bundle, chunk=16, budget=budget)
    wanted = explainer.explain(pictures[0], 1)
    seen, found = watched(explainer, pictures[0], 1)
    same(found, wanted)
    assert list(seen[0].maps) == ["grad_cam"]
    assert len(seen) == (2 if budget == "exact" else len(seen)) >= 2
    for method, m in seen[-1].maps.items():
        np.testing.assert_array_equal(m, found.maps[method])
