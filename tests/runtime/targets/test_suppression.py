"""Duplicates among boxes: OpenCV's search and ours against the definition, ties and empty boxes included."""

import numpy as np
import pytest

from fusioncam.kernels.boxes import overlaps
from fusioncam.runtime.targets.suppression import distinct, distinct_rotated, likeness


def greedy(boxes, groups, iou):
    """Return what torchvision.ops.batched_nms keeps, in order: float32, and a box of no area overlaps nothing."""
    kept = []
    for n, box in enumerate(boxes):
        for k in kept:
            low, high = np.maximum(box[:2], boxes[k][:2]), np.minimum(box[2:], boxes[k][2:])
            shared = np.float32(np.prod(np.maximum(high - low, np.float32(0))))
            both = np.prod(box[2:] - box[:2]) + np.prod(boxes[k][2:] - boxes[k][:2]) - shared
            if groups[n] == groups[k] and both > 0 and shared / both > iou:
                break
        else:
            kept.append(n)
    return kept


@pytest.mark.parametrize("kind", ["random", "whole", "empty"])
@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_duplicates(kind, iou):
    rng = np.random.default_rng(4)
    for _ in range(20):
        corners, sides = rng.uniform(-20, 60, (50, 2)), rng.uniform(0, 50, (50, 2))
        if kind != "random":  # many overlaps are equal, and many are exactly at the threshold
            corners, sides = corners.round() // 5, sides.round() // 5 + (kind == "whole")
        boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
        groups = rng.integers(0, 3, 50)
        np.testing.assert_array_equal(distinct(boxes, groups, iou), greedy(boxes, groups, iou))


def test_no_boxes_have_no_duplicates():
    assert not len(distinct(np.empty((0, 4), np.float32), np.empty(0, np.int64), 0.5))
    assert not len(distinct_rotated(np.empty((0, 5), np.float32), np.empty(0, np.int64), 0.5))


def test_overlaps():
    boxes = np.array([[0, 0, 4, 4], [2, 0, 6, 4], [5, 5, 6, 6], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(overlaps(boxes[0], boxes), [1, 1 / 3, 0, 0])
    assert overlaps(boxes[3], boxes[3]) == 0


def test_the_likeness_of_rotated_boxes():
    """The Hellinger distance of their Gaussians, by its definition: an integral over the plane."""
    rng = np.random.default_rng(1)
    boxes = np.concatenate([rng.uniform(-3, 3, (6, 2)), rng.uniform(3, 9, (6, 2)), rng.uniform(-2, 2, (6, 1))], axis=1)
    step = 0.05
    places = np.stack(np.meshgrid(*[np.arange(-20, 20, step)] * 2), axis=-1)

    def density(x, y, width, height, angle):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        covariance = turn @ np.diag([width**2, height**2]) / 12 @ turn.T
        away = places - (x, y)
        power = np.einsum("hwi,ij,hwj->hw", away, np.linalg.inv(covariance), away) / 2
        return np.exp(-power) / (2 * np.pi * np.sqrt(np.linalg.det(covariance)))

    roots = [np.sqrt(density(*box)) for box in boxes]
    wanted = [1 - np.sqrt(max(1 - (roots[0] * root).sum() * step**2, 0)) for root in roots]
    np.testing.assert_allclose(likeness(boxes[0], boxes), wanted, atol=1e-4)


def test_rotated_duplicates():
    boxes = np.array([[0, 0, 10, 4, 0], [0, 0, 10, 4, 0.1], [0, 0, 10, 4, 1.5], [0, 0.2, 10, 4, 0]], np.float32)
    np.testing.assert_array_equal(distinct_rotated(boxes, np.zeros(4), 0.5), [0, 2])
    np.testing.assert_array_equal(distinct_rotated(boxes, np.array([0, 1, 0, 2]), 0.5), [0, 1, 2, 3])
