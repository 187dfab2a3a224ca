"""The pace: seconds of runs, fitted, and of stages."""

import pytest

from fusioncam.runtime.engine.pace import Cost, Pace


def paced(*runs, chunk=8, padded=False):
    pace = Pace(chunk, padded)
    for pictures, seconds in runs:
        pace.ran(pictures, seconds)
    return pace


def test_runs_of_two_sizes_tell_the_cost_of_a_run_and_of_a_picture():
    pace = paced((1, 0.003), (8, 0.010), (20, 0.026))  # 0.002 a run, and 0.001 a picture
    assert pace.seconds(4) == pytest.approx(0.006)
    assert pace.seconds(16) == pytest.approx(0.020)
    assert pace.fitting(0.0261) == 20
    assert pace.fitting(0.0039) == 1
    assert pace.fitting(0.0029) == 0


def test_runs_of_one_size_tell_the_cost_of_a_picture():
    assert paced((8, 0.010), (8, 0.014)).seconds(4) == pytest.approx(0.006, rel=0.1)


def test_no_cost_is_negative():
    faster = paced((1, 0.020), (8, 0.010))
    assert faster.seconds(8) >= faster.seconds(1) > 0
    steeper = paced((1, 0.001), (8, 0.100))
    assert steeper.seconds(1) > 0


def test_nothing_is_known_at_first():
    pace = Pace(8, False)
    assert (pace.seconds(8), pace.fitting(1.0), pace.cost("guess")) == (0, 0, None)


def test_padded_runs_cost_the_same_whatever_they_hold():
    pace = paced((3, 0.040), (64, 0.040), (70, 0.080), chunk=64, padded=True)
    assert pace.seconds(1) == pace.seconds(64) == pytest.approx(0.040)
    assert pace.fitting(0.119) == 128
    assert pace.fitting(0.039) == 0


def test_earlier_measurements_fade():
    pace = paced(*[(8, 0.010)] * 5, *[(8, 0.100)] * 30)
    assert pace.seconds(8) == pytest.approx(0.100, rel=0.01)


def test_a_stage_may_take_longer_than_its_mean():
    pace = Pace(8, False)
    for seconds in (0.010, 0.020):
        pace.took("guess", seconds)
    assert pace.cost("guess") == pytest.approx(Cost(0.012, 0.002))
    assert pace.cost("guess").high == pytest.approx(0.016)
