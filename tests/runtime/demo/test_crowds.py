import numpy as np
import pytest

from fusioncam.runtime.demo.crowds import LEAST, MOST, SIZE, Seen, draw_crowd, draw_objects, sample_crowd
from fusioncam.runtime.demo.scenes import CLASSES, draw_scene, sample_layout


@pytest.fixture(scope="module")
def crowds():
    return [draw_crowd(seed) for seed in range(60)]


def test_the_same_seed_draws_the_same_crowd():
    first, again, other = (draw_crowd(seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    assert [seen.box for seen in first.objects] == [seen.box for seen in again.objects]
    assert (first.image != other.image).any()


def test_a_box_touches_the_mask_with_all_edges():
    mask = np.zeros((8, 9), bool)
    mask[2, 3] = mask[5, 7] = True
    assert Seen(0, mask).box == (3, 2, 8, 6)


def test_no_pixel_belongs_to_two_objects(crowds):
    for crowd in crowds:
        assert crowd.image.shape == (*SIZE, 3)
        assert len(crowd.objects) <= MOST
        assert sum((seen.mask.astype(int) for seen in crowd.objects), np.zeros(SIZE, int)).max() <= 1
        assert all(seen.mask.sum() >= LEAST for seen in crowd.objects)


def test_all_sizes_and_classes_and_the_same_class_twice(crowds):
    boxes = np.array([seen.box for crowd in crowds for seen in crowd.objects])
    sides = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    assert all(np.mean((sides >= least) & (sides < most)) > 0.15 for least, most in ((0, 24), (24, 48), (48, 128)))
    assert (boxes[:, :2] == 0).any()  # the border cuts some
    assert (boxes[:, 2:] == SIZE[0]).any()
    classes = [[seen.class_index for seen in crowd.objects] for crowd in crowds]
    assert {index for some in classes for index in some} == {*range(len(CLASSES))}
    assert any(len({*some}) < len(some) for some in classes)
    assert [] in classes


def test_a_crowd_has_no_pixels_before_it_is_drawn():
    layout = sample_crowd(6)
    small, large = (draw_objects(layout, (side, side)) for side in (128, 256))
    assert [seen.class_index for seen in small.objects] == [seen.class_index for seen in large.objects]
    for a, b in zip(small.objects, large.objects, strict=True):
        np.testing.assert_allclose(np.array(b.box) / 2, a.box, atol=1)


def test_objects_of_a_scene_are_its_masks():
    scene, objects = draw_scene(9, SIZE, 3), draw_objects(sample_layout(9, 3)).objects
    assert [seen.class_index for seen in objects] == [*scene.masks]
    for seen in objects:
        np.testing.assert_array_equal(seen.mask, scene.masks[seen.class_index])
