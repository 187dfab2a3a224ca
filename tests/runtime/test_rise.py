"""RISE: its map against the definition, the passes it takes, and where it stops."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.kernels.rise import RandomMasks
from fusioncam.runtime.explanation import STANDARD_ERROR


@pytest.mark.parametrize("seed", [0, 11])
def test_the_map_is_the_definition_by_the_same_masks(tiny, oracle, pictures, seed):
    with Explainer(tiny.bundle, methods=["rise"], budget=150, seed=seed) as explainer:
        found = explainer.explain_batch(pictures[:1], [[0, 3]])
    masks = [RandomMasks((24, 32), 8, seed).mask(n) for n in range(150)]
    for explanation in found:
        wanted = oracle(tiny.bundle).rise(pictures[0], explanation.class_index, masks)
        np.testing.assert_allclose(explanation.maps["rise"], wanted, rtol=0, atol=1e-4)


def test_chunks_and_company_change_nothing_and_another_seed_changes_the_masks(tiny, pictures):
    def maps(chunk, seed=0, others=()):
        with Explainer(tiny.bundle, methods=["rise", *others], budget=0.05, chunk=chunk, seed=seed) as explainer:
            return [e.maps["rise"] for e in explainer.explain_batch(pictures, 1)]

    wanted = maps(64)
    for other in (maps(1), maps(150), maps(7, others=["score_cam"])):
        np.testing.assert_allclose(other, wanted, atol=1e-5)
    other = maps(64, seed=1)
    assert all(0.3 < np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.9999 for a, b in zip(wanted, other, strict=True))


def test_it_stops_when_the_error_is_small_and_all_targets_share_its_passes(tiny, pictures, counted):
    explainer, counter = counted(tiny.bundle, methods=["rise"])

    def passes(classes):
        counter.batches.clear()
        found = explainer.explain_batch(pictures[:1], [classes])
        assert {e.passes.run for e in found} == {counter.pictures}
        assert 0 < found[0].passes.standard_error <= STANDARD_ERROR
        assert not any(e.flags for e in found)
        return counter.pictures

    alone = [passes([c]) for c in (1, 2)]
    assert passes([1, 2]) == max(alone) < 4000


@pytest.mark.parametrize(
    ("methods", "budget", "passes"),
    [
        (["rise"], 64, 64),
        (["rise"], 0.05, 200),
        (["rise", "score_cam"], 40, 40),
        (["fusion_cam:grad_cam+rise"], 40, 40),
        (["rise", "fusion_cam", "group_cam"], 60, 60),
    ],
)
def test_a_budget_ends_it(tiny, pictures, counted, methods, budget, passes):
    explainer, counter = counted(tiny.bundle, methods=methods, budget=budget)
    seen = []
    found = explainer.explain(pictures[0], 1, progress=lambda done, total: seen.append((done, total)))
    assert counter.pictures == found.passes.run == passes
    assert found.passes.standard_error > STANDARD_ERROR
    assert "cut_short" in found.flags
    assert seen[-1] == (passes, passes)
    assert found.maps["rise"].any() if "rise" in found.maps else found.maps[methods[0]].any()


def test_bad_arguments(tiny, pictures):
    with pytest.raises(UsageError, match="a budget of 1 passes is too small: 2 are needed"):
        Explainer(tiny.bundle, methods=["rise"], budget=1).explain(pictures[0])
    for seed in (-1, True, 1.5, 1 << 64):
        with pytest.raises(UsageError, match="seed must be a whole number from 0 to 2\\^64 - 1, not "):
            Explainer(tiny.bundle, methods=["rise"], seed=seed)


def test_preliminary_maps_are_shown(tiny, pictures):
    seen = []
    with Explainer(tiny.bundle, methods=["rise"], budget=300) as explainer:
        final = explainer.explain(pictures[0], 1, progress_maps=seen.append)
    assert [e.passes.run for e in seen] == [128, 256, 300]
    assert all("preliminary" in e.flags for e in seen)
    np.testing.assert_array_equal(seen[-1].maps["rise"], final.maps["rise"])
