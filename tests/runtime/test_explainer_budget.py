import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.explanation import Passes

SHARES = (0.3, 0.6, 1.0)


@pytest.fixture(scope="session")
def wide(make_tiny):
    """Channels enough to save some: 200, of which three are zero and two constant."""
    return make_tiny(channels=200, zero=(1, 5, 77), constant=(3, 150))


def correlation(found, wanted):
    return np.corrcoef(found.ravel(), wanted.ravel())[0, 1]


@pytest.mark.parametrize("classes", [[1], [0, 1, 4]])
def test_auto_draws_the_exact_map_with_fewer_passes(wide, counted, pictures, classes):
    explainer, counter = counted(wide.bundle, budget="auto")
    found = explainer.explain_batch(pictures[:1], [classes])
    wanted = Explainer(wide.bundle).explain_batch(pictures[:1], [classes])
    others = 1 + 3 * len(classes)
    for f, w in zip(found, wanted, strict=True):
        assert w.passes == Passes(195 + others, 200)
        assert f.passes.run == counter.pictures < 165
        assert 0 < f.passes.missing < 1
        assert f.flags == w.flags
        np.testing.assert_array_equal(f.maps["grad_cam"], w.maps["grad_cam"])
        for method in ("score_cam", "fusion_cam"):
            assert correlation(f.maps[method], w.maps[method]) > 0.99


def test_the_more_the_better(wide, pictures):
    wanted = Explainer(wide.bundle).explain(pictures[0], 1)
    errors = []
    for share in SHARES:
        found = Explainer(wide.bundle, budget=share).explain(pictures[0], 1)
        assert found.passes.run == np.ceil(share * 195) + 4
        errors.append(1 - correlation(found.maps["score_cam"], wanted.maps["score_cam"]))
    assert errors[0] > errors[1] > errors[2] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("budget", "run"), [(5, 5), (30, 30), (100, 100), (199, 199), (5000, 199)])
def test_a_number_counts_passes_of_all_kinds(wide, counted, pictures, budget, run):
    explainer, counter = counted(wide.bundle, budget=budget)
    found = explainer.explain(pictures[0], 1)
    assert found.passes.run == counter.pictures == run
    assert (found.passes.missing == 0) == (run == 199)


@pytest.mark.parametrize(("methods", "budget"), [(("score_cam",), "auto"), (("union_cam", "grad_cam"), 30)])
def test_methods_and_budget_of_one_explanation(wide, pictures, methods, budget):
    """As those of an Explainer of its own; without them, the Explainer's."""
    explainer = Explainer(wide.bundle)
    wanted = Explainer(wide.bundle, methods=methods, budget=budget).explain(pictures[0], 1)
    pipeline = explainer.pipeline
    request = ExplainRequest(pictures[0], [1], methods, budget)
    ((found,),) = pipeline.run([pipeline.task(request)], methods)
    assert found.passes == wanted.passes
    assert list(found.maps) == list(methods)
    for method, m in wanted.maps.items():
        np.testing.assert_array_equal(found.maps[method], m)
    exact = explainer.explain(pictures[0], 1)
    assert exact.passes.run == 199


def test_a_budget_that_ends_too_early_is_flagged(make_tiny, pictures):
    def rough(weights):
        weights["w4"] *= 40

    made = make_tiny(rough, channels=200)
    found = Explainer(made.bundle, budget=5).explain(pictures[0], 1)
    assert "cut_short" in found.flags
    for budget in ("exact", "auto", 1.0):
        found = Explainer(made.bundle, budget=budget).explain(pictures[0], 1)
        assert "cut_short" not in found.flags
        assert ("nothing_saved" in found.flags) == (budget == "auto" and found.passes.missing == 0)


def test_a_guess_that_saves_nothing_is_told(make_tiny, pictures):
    made = make_tiny(channels=60)
    found = {budget: Explainer(made.bundle, budget=budget).explain(pictures[0], 1) for budget in ("auto", "exact")}
    assert found["auto"].passes.run == found["exact"].passes.run
    assert "nothing_saved" in found["auto"].flags
    assert "nothing_saved" not in found["exact"].flags


def test_a_budget_too_small_for_the_classes(wide, pictures):
    explainer = Explainer(wide.bundle, budget=8)
    assert explainer.explain(pictures[0], 1).passes.run == 8
    with pytest.raises(UsageError, match="budget of 8 passes is too small: 10 are needed besides"):
        explainer.explain_batch(pictures[:1], [[0, 1, 2]])


def test_score_cam_alone_needs_one_pass_besides(wide, pictures):
    found = Explainer(wide.bundle, methods=("score_cam",), budget=20).explain(pictures[0], 1)
    assert found.passes.run == 20
    assert Explainer(wide.bundle, methods=("grad_cam",), budget=1).explain(pictures[0], 1).passes.run == 0


def test_pictures_that_share_chunks_keep_their_maps(wide, counted, pictures):
    explainer, counter = counted(wide.bundle, budget="auto", chunk=8)
    together = explainer.explain_batch(pictures, 1)
    batches, counter.batches = counter.batches, []
    alone = [explainer.explain(p, 1) for p in pictures]
    assert sum(batches) == counter.pictures
    assert len(batches) < len(counter.batches)
    for f, w in zip(together, alone, strict=True):
        assert f.passes.run == w.passes.run
        np.testing.assert_allclose(f.maps["fusion_cam"], w.maps["fusion_cam"], rtol=0, atol=1e-5)


def test_progress_ends_at_its_end(wide, pictures):
    calls = []
    found = Explainer(wide.bundle, budget="auto").explain(pictures[0], 1, progress=lambda *call: calls.append(call))
    done, total = zip(*calls, strict=True)
    assert list(done) == sorted(set(done))
    assert done[-1] == total[-1] == found.passes.run
    assert all(d <= t for d, t in calls)


@pytest.mark.parametrize("budget", ["auto", 60, 0.4, 1.0])
@pytest.mark.parametrize("chunk", [1, 8, 64])
@pytest.mark.parametrize("classes", [[1], [-1, 4]])
def test_the_gpu_does_the_same(wide, on_device, pictures, budget, chunk, classes):
    explainer = Explainer(wide.bundle, budget=budget, chunk=chunk)
    explainer.pipeline.preferred.scorer.pad = True  # so that it guesses as often
    wanted = explainer.explain_batch(pictures[:2], [classes] * 2)
    explainer = on_device(wide.bundle, chunk=chunk, budget=budget)
    for f, w in zip(explainer.explain_batch(pictures[:2], [classes] * 2), wanted, strict=True):
        assert (f.passes.run, f.passes.channels, f.flags) == (w.passes.run, w.passes.channels, w.flags)
        assert f.passes.missing == pytest.approx(w.passes.missing, abs=1e-4)
        for method, m in w.maps.items():
            np.testing.assert_allclose(f.maps[method], m, rtol=0, atol=1e-4, err_msg=method)
