"""How pictures are shared out among runs."""

import pytest

from fusioncam.runtime.engine.run_sizes import RunSizes


@pytest.mark.parametrize(
    ("pictures", "sizes"),
    [
        *((0, []), (1, [4]), (4, [4]), (5, [4, 4]), (16, [4] * 4), (17, [64]), (64, [64]), (66, [64, 4])),
        *((514, [64] * 8 + [4]), (80, [64] + [4] * 4), (81, [64, 64])),
    ],
)
def test_a_tail_takes_small_runs_while_they_are_few(pictures, sizes):
    assert RunSizes(64, small=4).of(pictures) == sizes


def test_one_small_run_is_never_more_than_a_chunk():
    assert RunSizes(5, small=4).of(9) == [5, 4]
    assert RunSizes(5, small=4).of(10) == [5, 5]
    assert RunSizes(8, small=4).of(13) == [8, 8]


@pytest.mark.parametrize("small", [0, 8])
def test_one_shape_only(small):
    assert RunSizes(8, small=small).of(9) == [8, 8]


def test_a_run_that_is_not_padded_has_the_size_of_the_tail():
    assert RunSizes(8, padded=False).of(19) == [8, 8, 3]


def test_the_last_channels_of_2048_cost_no_chunk():
    assert len(RunSizes(256, small=4).of(2048 + 2)) == 9
    assert sum(RunSizes(256, small=4).of(2048 + 2)) == 2052  # 2304 before
