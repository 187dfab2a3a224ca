"""Maps of a target at one place: methods that weigh channels weigh places, too, as a channel shows all of its kind."""

import numpy as np
import pytest

from fusioncam.kernels import cam_methods
from fusioncam.kernels.cam_methods import BY_PLACE, GRADIENT_MAPS, gradient_map, seen_at

SIZE = (8, 16)


@pytest.fixture
def two_objects():
    """Return A and g (3, 4, 8): the channels respond to an object on the left and to one on the right of its kind."""
    rng = np.random.default_rng(0)
    activations = np.zeros((3, 4, 8))
    activations[:, 1:3, 1:3] = activations[:, 1:3, 5:7] = rng.uniform(1, 2, (3, 2, 2))
    gradients = np.zeros((3, 4, 8))
    gradients[:, 1:3, 1:3] = rng.uniform(0.5, 1, (3, 2, 2))
    return activations, gradients


def test_a_place_counts_by_what_it_adds(two_objects):
    """The gradient is longest where nothing is, as in the middle of a ring."""
    activations, gradients = two_objects
    gradients[:, 2, 2] = 9
    activations[:, 2, 2] = 0
    gradients[:, 1, 1] *= -1
    adds = np.array([[max(gradients[:, i, j] @ activations[:, i, j], 0) for j in range(8)] for i in range(4)])
    assert adds.max() > adds[2, 2] == adds[1, 1] == 0
    np.testing.assert_allclose(seen_at(activations, gradients), activations * adds / adds.max())
    np.testing.assert_array_equal(seen_at(activations, -abs(gradients)), activations)


@pytest.mark.parametrize("method", GRADIENT_MAPS)
def test_a_gradient_map_shows_the_object_of_the_target_alone(two_objects, method):
    left, right = np.split(gradient_map(method, *two_objects, SIZE, local=True), 2, axis=1)
    assert left.max() == 1
    assert not right[:, 1:].any()
    everywhere = gradient_map(method, *two_objects, SIZE)
    assert (everywhere[:, 9:].max() > 0.5) == (method not in BY_PLACE)


def test_groups_of_a_target_are_of_its_own_object(two_objects):
    activations, gradients = two_objects
    groups = cam_methods.group_maps(seen_at(activations, gradients), gradients)
    assert groups[:, :, :4].any()
    assert not groups[:, :, 4:].any()
