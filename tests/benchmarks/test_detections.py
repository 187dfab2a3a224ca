"""Right detections, the places of maps, and the areas of insertion and deletion."""

from types import SimpleNamespace

import numpy as np
import pytest

from fusioncam.runtime.demo.crowds import Crowd, Seen
from fusioncam.runtime.probes.blur import blurred


@pytest.fixture
def command(command_of):
    return command_of("detections")


def square(x1, y1, x2, y2):
    mask = np.zeros((128, 128), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def detection(class_index, box, score=0.5):
    return SimpleNamespace(class_index=class_index, label="it", box=box, box_on_input=box, score=score, anchor=7)


def test_a_detection_is_right_by_class_and_overlap(command):
    masks = [square(0, 0, 20, 20), square(40, 40, 80, 80), square(90, 90, 120, 120)]
    picture = Crowd(np.zeros((128, 128, 3), np.uint8), tuple(Seen(c, mask) for c, mask in enumerate(masks)))
    found = [
        detection(0, (0, 0, 20, 9)),
        detection(1, (40, 40, 80, 70)),
        detection(1, (40, 40, 80, 78)),
        detection(3, (90, 90, 120, 120)),
    ]
    (case,) = command.right(SimpleNamespace(detections=lambda _: found), picture)
    assert case.detection is found[2]
    assert case.mask is masks[1]
    assert case.share == pytest.approx(40 * 38 / 128**2)
    assert {name: tensor.tolist() for name, tensor in case.target.tensors.items()} == {
        "class_index": 1,
        "box": [40, 40, 80, 78],
        "anchor": 7,
        "weights": [0, 0, 0, 0, 1],
    }


def test_where_a_map_lies(command):
    case = command.Case(detection(0, (0, 0, 64, 128)), square(0, 0, 32, 128))
    saliency = np.zeros((128, 128))
    saliency[:, 31:33] = 1
    saliency[3, 31] = 3
    assert command.places_of(saliency, case) == pytest.approx(
        {"pointing": 1, "energy": 130 / 258, "over chance": 130 / 129}
    )


def test_areas_are_relative_to_the_whole_picture(command):
    """A model that sees the left half: a map of that half takes it away first."""
    x, case = (
        np.ones((3, 128, 128), np.float32),
        command.Case(detection(0, (0, 0, 64, 128), 0.5), square(0, 0, 64, 128)),
    )
    first, last = (float(picture[:, :, :64].mean()) for picture in (blurred(x), x))
    curves = command.curves_of(
        case.mask.astype(np.float32), x, case, lambda pictures, _: [0.5 * p[:, :, :64].mean() for p in pictures]
    )
    assert curves["deletion"] == pytest.approx(0.25, abs=0.01)
    assert curves["insertion"] == pytest.approx(0.25 * (first + last) + 0.5 * last, abs=0.01)


def test_the_fewest_masks_after_which_deletion_stays_low(command):
    """One mean that is low by chance does not count."""
    columns = {("fusion_cam", metric): np.full(3, 0.2) for metric in command.COMPARED}
    by_masks = dict(zip(command.BUDGETS, (0.1, 0.3, 0.1, 0.25, 0.2, 0.1, 0.1), strict=True))
    for n, deletion in by_masks.items():
        columns |= {(f"rise {n}", metric): np.full(3, deletion) for metric in command.COMPARED}
    less = command.differences(columns)
    assert {n: less[f"rise {n}"]["deletion"]["mean"] for n in by_masks} == pytest.approx(
        {n: deletion - 0.2 for n, deletion in by_masks.items()}
    )
    assert command.fewest(less) == 64
    less["rise 512"]["deletion"]["mean"] = 0.1
    assert command.fewest(less) is None


def test_rings_are_counted_apart(command):
    assert command.hits_of([(True, 0.0), (True, 1.0), (False, 1.0)]) == {"rings": [1, 2], "others": [1, 1]}
