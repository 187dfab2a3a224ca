import numpy as np
import pytest

from fusioncam.runtime.probes.controls import CONTROLS, ORDER, SIDE, centred, flipped, shuffled


@pytest.mark.parametrize("size", [(24, 32), (96, 96), (25, 31), (4, 4), (3, 40), (1, 1)])
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_are_maps_of_the_same_size(name, size):
    saliency = np.random.default_rng(0).random(size, np.float32)
    made = CONTROLS[name].make(saliency)
    assert made.shape == size
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() <= 1
    if name != "centre":
        np.testing.assert_array_equal(np.sort(made, axis=None), np.sort(saliency, axis=None))


def test_a_shuffled_map_keeps_its_blocks_but_none_in_its_place():
    blocks = np.arange(SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE)
    moved = shuffled(np.kron(blocks, np.ones((5, 7), np.float32)))[::5, ::7]
    np.testing.assert_array_equal(moved.ravel(), ORDER)
    assert sorted(ORDER) == list(range(SIDE * SIDE))
    assert (moved != blocks).all()
    rows, columns = np.divmod(np.array(ORDER), SIDE)
    steps = np.abs(rows - np.arange(16) // SIDE) + np.abs(columns - np.arange(16) % SIDE)
    assert steps.min() > 1


def test_a_flipped_map_lies_on_the_other_side():
    saliency = np.zeros((6, 8), np.float32)
    saliency[1, 2] = 1
    assert np.argwhere(flipped(saliency)).tolist() == [[4, 5]]


def test_the_centre_prior_is_largest_in_the_middle():
    prior = centred(np.zeros((25, 41), np.float32))
    assert prior[12, 20] == prior.max() == 1
    np.testing.assert_allclose(prior[0, 20], np.exp(-2), rtol=1e-6)
    np.testing.assert_array_equal(prior, flipped(prior))
