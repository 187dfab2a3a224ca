"""Bootstrap intervals and paired differences."""

import tracemalloc

import numpy as np
import pytest

from fusioncam.runtime.evaluation import statistics
from fusioncam.runtime.evaluation.statistics import intervals, means, paired

NAN = float("nan")


def test_an_interval_is_that_of_resampled_means(monkeypatch):
    values = np.random.default_rng(0).exponential(size=40)
    found = means({"m": values})["m"]
    assert found.mean == pytest.approx(values.mean())
    assert (found.n, found.left_out) == (40, 0)
    draw = np.random.default_rng(99)
    plain = [values[draw.integers(0, 40, 40)].mean() for _ in range(20000)]
    low, high = np.percentile(plain, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.03)
    assert found.high == pytest.approx(high, abs=0.03)
    monkeypatch.setattr(statistics, "LEVEL", 0.5)
    assert means({"m": values})["m"].low > found.low


def test_intervals_hold_the_truth_as_often_as_they_say():
    samples = np.random.default_rng(1).normal(3, 1, (60, 300))
    low, high = intervals(samples, resamples=500)
    assert 0.9 <= np.mean((low <= 3) & (high >= 3)) <= 0.98


def test_what_has_no_value_is_left_out_and_counted():
    columns = {"a": np.array([1.0, NAN, 3, 5]), "b": np.array([2.0, 2, 2, 2]), "c": np.full(4, NAN)}
    found = means(columns)
    assert found["a"] == means({"x": np.array([1.0, 3, 5])})["x"]._replace(left_out=1)
    assert found["b"] == (2, 2, 2, 4, 0)
    assert found["c"][3:] == (0, 4)
    assert np.isnan(found["c"][:3]).all()
    alone = means({"a": np.array([NAN, 7.0])})["a"]
    assert alone.mean == 7
    assert np.isnan([alone.low, alone.high]).all(), "one picture tells nothing of the spread"
    assert means({}) == {}


def test_the_interval_is_always_the_same_and_the_block_does_not_matter(monkeypatch):
    values = {"m": np.random.default_rng(0).random(30)}
    found = means(values)
    assert means(values) == found
    with monkeypatch.context() as patch:
        patch.setattr(statistics, "SEED", 5)
        assert means(values) != found
    monkeypatch.setattr(statistics, "BLOCK", 100)
    assert means(values)["m"] == pytest.approx(found["m"])


def test_a_column_has_the_same_interval_alone_and_among_others():
    rng = np.random.default_rng(0)
    columns = {name: rng.random(25) for name in "abc"}
    columns["b"][3] = NAN
    together = means(columns)
    for name, values in columns.items():
        assert together[name] == pytest.approx(means({name: values})[name])


def test_differences_are_taken_picture_by_picture():
    rng = np.random.default_rng(0)
    photos = rng.normal(0, 10, 30)  # far more spread than the methods have
    columns = {"good": photos + 1, "bad": photos + rng.normal(0, 0.2, 30), "same": photos + 1}
    pairs = [("good", "bad"), ("good", "same"), ("bad", "same")]
    one, two, three = paired(columns, "higher", pairs)
    assert [(p.first, p.second) for p in (one, two, three)] == pairs
    assert one.difference.mean == pytest.approx(1, abs=0.2)
    assert one.settled
    assert one.won == 1
    assert (two.won, two.tied, two.settled) == (0, 1, False)
    assert three.settled
    assert three.difference.high < 0
    assert paired(columns, "lower", pairs)[0].won == 0
    assert paired(columns, "lower", pairs)[0].difference == one.difference


def test_pairs_lose_the_pictures_that_one_has_no_value_for():
    columns = {"a": np.array([NAN, 1.0, 2, 3]), "b": np.array([0.0, NAN, 1, 4])}
    (found,) = paired(columns, "higher", [("a", "b")])
    assert found.difference.mean == 0
    assert (found.difference.n, found.difference.left_out) == (2, 2)
    assert (found.won, found.tied) == (0.5, 0)
    (chosen,) = paired(columns, "higher", [("b", "a")])
    assert (chosen.first, chosen.won) == ("b", 0.5)
    (nothing,) = paired({"a": np.array([NAN]), "b": np.array([1.0])}, "lower", [("a", "b")])
    assert np.isnan([nothing.won, nothing.tied, nothing.difference.mean]).all()


def test_memory_is_bounded():
    values = np.random.default_rng(0).random((20000, 2))
    tracemalloc.start()
    try:
        intervals(values, resamples=400)  # all at once: 400 x 20000 x 8 bytes, several times
        assert tracemalloc.get_traced_memory()[1] < 4 * 8 * statistics.BLOCK
    finally:
        tracemalloc.stop()
