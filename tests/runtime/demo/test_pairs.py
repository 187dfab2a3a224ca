import numpy as np
import pytest

from fusioncam.runtime.demo.pairs import draw_pair, sample_pair
from fusioncam.runtime.demo.scenes import draw_scene


def test_a_seed_names_one_pair():
    first, again, other = draw_pair(7), draw_pair(7), draw_pair(8)
    for name in ("scene", "reference"):
        np.testing.assert_array_equal(getattr(first, name).image, getattr(again, name).image)
        assert (getattr(first, name).image != getattr(other, name).image).any()


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_the_front_object_of_a_scene_stands_alone_in_its_reference(objects):
    for seed in range(20):
        pair = draw_pair(seed, (64, 80), objects)
        np.testing.assert_array_equal(pair.scene.image, draw_scene(seed, (64, 80), objects).image)
        assert pair.scene.class_index == pair.reference.class_index == pair.class_index
        assert len(pair.scene.masks) == objects
        assert len(pair.reference.masks) == 1


def test_what_is_shared_is_outline_colours_and_pattern():
    turned = 0
    for seed in range(20):
        scene, reference = sample_pair(seed, 2)
        shared, again = scene.items[-1], reference.items[-1]
        assert again.texture.kind == shared.texture.kind
        np.testing.assert_array_equal(again.texture.colours, shared.texture.colours)
        sizes = [np.ptp(item.outlines[0], axis=0) for item in (shared, again)]
        turned += not np.allclose(*sizes, rtol=0.02)
        assert all(item.class_index is None for item in reference.items[:-1])
    assert turned > 15


def test_the_shared_object_stands_off_from_both_grounds():
    luma = np.array([0.299, 0.587, 0.114])
    for seed in range(50):
        for layout in sample_pair(seed, 2):
            bright = [float((texture.colours @ luma).mean()) for texture in (layout.items[-1].texture, layout.ground)]
            assert abs(bright[0] - bright[1]) > 0.2
