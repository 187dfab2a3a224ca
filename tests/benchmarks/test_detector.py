"""Parts of the detector's training and of its figures: pictures, assignment, losses, average precision."""

import numpy as np
import pytest
import torch

from fusioncam.runtime.demo.crowds import Crowd, Seen, draw_crowd


@pytest.fixture
def detector(part):
    return part("demo.detector")


@pytest.fixture
def boxes(part):
    return part("demo.boxes")


@pytest.fixture
def precision(part):
    return part("demo.precision")


def test_letterboxed_pictures_have_a_band_in_the_middle_and_grey_beside_it(detector):
    drawn = draw_crowd(6)
    seen = set()
    for seed in range(12):
        picture = detector.letterboxed(drawn, np.random.default_rng(seed))
        grey = (picture.image == detector.PAD).all(axis=2)
        rows, columns = grey.all(axis=1), grey.all(axis=0)
        seen.add((bool(rows.any()), bool(columns.any())))
        assert abs(int(rows.sum() - 2 * np.argmin(rows))) <= 1 or not rows.any()
        assert not any((thing.mask & grey).any() for thing in picture.objects)
        for thing in picture.objects:  # it is where the same pixels are as before
            colours = np.sort(picture.image[thing.mask], axis=0)
            assert any((np.isin(colours, drawn.image[old.mask])).all() for old in drawn.objects)
    assert seen == {(False, False), (True, False), (False, True)}


def test_pictures_come_again_turned_and_mirrored(detector, monkeypatch):
    monkeypatch.setattr(detector, "POOL", 3)
    pictures = detector.Pictures(5, 24)
    first = pictures[1]
    for turn in range(8):
        pixels, _, classes, owners = pictures[1 + 3 * turn]
        want = [part.rot90(turn, (-2, -1)) for part in (first[0], first[3])]
        want = [part.flip(-1) for part in want] if turn >= 4 else want
        assert torch.equal(pixels, want[0])
        assert torch.equal(owners, want[1])
        assert torch.equal(classes, first[2])


def test_tensors_of_a_picture(detector):
    drawn = draw_crowd(6)
    pixels, boxes, classes, owners = detector.tensors_of(drawn)
    np.testing.assert_array_equal(pixels.numpy().transpose(1, 2, 0), drawn.image)
    assert (classes >= 0).sum() == len(drawn.objects)
    for row, seen in enumerate(drawn.objects):
        assert (tuple(boxes[row].int().tolist()), int(classes[row])) == (seen.box, seen.class_index)
        np.testing.assert_array_equal(owners == row, seen.mask)


def test_the_answer_has_the_boxes_of_the_distances(detector):
    model = detector.build().eval()
    images = torch.rand(2, 3, *detector.SIZE)
    with torch.no_grad():
        answer = model(images)
        edges, classes = model.heads(model.levels(images))
    assert answer.shape == (2, 4 + len(detector.CLASSES), 336)
    torch.testing.assert_close(answer[:, 4:], classes.sigmoid())
    place = 16 * 16 + 8 + 3  # row 1, column 3 of the level of stride 16
    distances = edges[0, :, place].reshape(4, -1).softmax(dim=1) @ torch.arange(float(detector.BINS))
    left, top, right, bottom = (16 * distances).tolist()
    wanted = [3.5 * 16 + (right - left) / 2, 1.5 * 16 + (bottom - top) / 2, left + right, top + bottom]
    assert answer[0, :4, place].tolist() == pytest.approx(wanted, rel=1e-4)


TRUTH = torch.tensor([[[0.0, 0, 16, 16], [8, 0, 40, 16], [0, 0, 0, 0]]])
CLASSES = torch.tensor([[1, 0, -1]])
ANY = torch.tensor([[0.0, 1e9]]).expand(4, 2)
CENTRES = torch.tensor([[4.0, 4], [12, 4], [28, 4], [28, 28]])


class TestAssignment:
    def test_a_place_inside_an_object_finds_it(self, boxes):
        found = torch.tensor([[[0.0, 0, 16, 16], [8, 0, 40, 16], [8, 0, 40, 12], [8, 0, 40, 16]]])
        owner, quality = boxes.assign(found, torch.zeros(1, 2, 4), CENTRES, ANY, TRUTH, CLASSES)
        assert owner.tolist() == [[0, 1, 1, -1]]  # the second lies in both, the last beyond both
        assert quality[0, :2].tolist() == pytest.approx([1, 1], abs=1e-4)
        assert quality[0, 2] == pytest.approx(0.75**boxes.SHARPNESS, abs=1e-4)
        assert quality[0, 3] == 0

    def test_an_object_that_is_too_large_for_a_place_is_left_to_others(self, boxes):
        found = TRUTH[:, :1].expand(1, 4, 4)
        sides = torch.tensor([[0.0, 16.0], [20.0, 80.0], [0.0, 80.0], [0.0, 80.0]])
        owner, _ = boxes.assign(found, torch.zeros(1, 2, 4), CENTRES, sides, TRUTH[:, :1], CLASSES[:, :1])
        assert owner.tolist() == [[0, -1, -1, -1]]

    def test_probability_counts_beside_the_overlap(self, boxes):
        found = torch.tensor([[[0.0, 0, 16, 16], [0, 0, 16, 16], [0, 0, 1, 1], [0, 0, 1, 1]]])
        logits = torch.tensor([[[0.0] * 4, [0.0, -3, 0, 0]]])
        _, quality = boxes.assign(found, logits, CENTRES, ANY, TRUTH[:, :1], CLASSES[:, :1])
        assert quality[0, 1] / quality[0, 0] == pytest.approx((0.0474 / 0.5) ** 0.5, rel=1e-3)

    def test_no_object_no_owner(self, boxes):
        owner, quality = boxes.assign(
            torch.rand(1, 4, 4), torch.zeros(1, 2, 4), CENTRES, ANY, TRUTH, torch.full((1, 3), -1)
        )
        assert (owner == -1).all()
        assert (quality == 0).all()


def test_overlaps_of_boxes(boxes):
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert float(boxes.overlap(a, b)) == pytest.approx(1 / 3, abs=1e-6)
    assert float(boxes.complete_overlap(a, b)) == pytest.approx(1 / 3 - 1 / 13, abs=1e-6)
    wide = torch.tensor([[0.0, 0.5, 2, 1.5]])
    tilt = 4 / np.pi**2 * (np.arctan(1) - np.arctan(2)) ** 2
    assert float(boxes.complete_overlap(a, wide)) == pytest.approx(0.5 - tilt**2 / (0.5 + tilt), abs=1e-6)


def test_a_distribution_is_right_where_its_mean_is(boxes):
    logits = torch.log(torch.tensor([[1e-9, 0.75, 0.25, 1e-9]]))
    best = float(boxes.distribution_loss(logits, torch.tensor([1.25])))
    assert best == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), abs=1e-4)
    assert all(float(boxes.distribution_loss(logits, torch.tensor([d]))) > best for d in (0.5, 1.6, 2.9))


def test_the_loss_falls_to_nothing_where_all_is_right(boxes, detector):
    centres, strides, _ = detector.places()
    truth, classes = torch.tensor([[[16.0, 16, 80, 80]]]), torch.tensor([[5]])
    pixels = torch.cat([truth[0, 0, :2, None], truth[0, 0, 2:, None]]) / strides
    distances = torch.cat([centres - pixels[:2], pixels[2:] - centres]).clamp(0, detector.BINS - 1.01)
    lower = distances.floor()
    edges = torch.full((4, detector.BINS, distances.shape[1]), 1e-9)
    edges.scatter_(1, lower.long()[:, None], (1 - distances + lower)[:, None])
    edges.scatter_(1, lower.long()[:, None] + 1, (distances - lower + 1e-9)[:, None])
    found = torch.cat([centres - distances[:2], centres + distances[2:]]).T[None]
    centres, strides, sides = centres.T, strides.T, torch.tensor([[0.0, 1e9]]).expand(336, 2)
    logits = torch.full((1, 8, len(centres)), -15.0)
    owner, _ = boxes.assign(found * strides, logits, centres * strides, sides, truth, classes)
    logits[0, 5, owner[0] == 0] = 15.0

    def loss(found, logits):
        assigned = boxes.assign(found * strides, logits, centres * strides, sides, truth, classes)
        logs = edges.log().flatten(0, 1)[None]
        return boxes.detection_loss(found, logs, centres, strides, logits, truth, classes, *assigned)

    assert (owner == 0).sum() == boxes.CANDIDATES
    right, moved, turned = loss(found, logits), loss(found + 0.5, logits), loss(found, logits.roll(1, dims=1))
    assert right[0] < 1e-3
    assert right[2] < 1e-3
    assert moved[0] > 0.1
    assert turned[2] > 1


def test_evidence_beside_the_object_costs(detector):
    """Logits that are the sum of a channel over their level: its gradient is 1 there."""
    owners = torch.full((1, *detector.SIZE), detector.MOST, dtype=torch.uint8)
    owners[0, 32:64, 64:96] = 1

    def cost(row, column, objects):
        levels = [torch.zeros(1, 2, side, side) for side in (16, 8, 4)]
        levels[1][0, 0, row, column] = 40.0
        for level in levels:
            level.requires_grad_()
        sums = [level[:, 0].sum(dim=(1, 2))[:, None, None].expand(1, 8, level[0, 0].numel()) for level in levels]
        owner, quality = torch.full((1, 336), -1), torch.zeros(1, 336)
        if objects:
            owner[0, 256 + 3], quality[0, 256 + 3] = 1, 0.9  # a place of the second level
        found = torch.cat(sums, dim=2)
        return float(detector.misplaced(levels, found, torch.tensor([[3, 5]]), owners, owner, quality).detach())

    assert cost(3, 5, objects=True) == pytest.approx(0, abs=1e-3)
    assert cost(0, 0, objects=True) > 10
    assert cost(0, 0, objects=False) == 0


def picture(*objects):
    """A picture with boxes of classes."""
    things = []
    for class_index, (x1, y1, x2, y2) in objects:
        mask = np.zeros((100, 100), bool)
        mask[y1:y2, x1:x2] = True
        things.append(Seen(class_index, mask))
    return Crowd(np.zeros((100, 100, 3), np.uint8), tuple(things))


SMALL, LARGE = (10, 10, 20, 20), (20, 20, 90, 90)


class TestAveragePrecision:
    def found(self, precision, *detections):
        boxes, scores, classes = zip(*detections, strict=True)
        return precision.Found(np.array(boxes, float), np.array(scores), np.array(classes))

    def test_what_is_right_is_1(self, precision):
        found = self.found(precision, (SMALL, 0.9, 0), (LARGE, 0.3, 1))
        figures = precision.average_precisions([picture((0, SMALL), (1, LARGE))], [found], 3)
        assert figures == {"mAP50": 1, "mAP50-95, all": 1, "mAP50-95, small": 1, "mAP50-95, large": 1}

    def test_a_mistake_between_two_that_are_right(self, precision):
        """Precision 1 up to a recall of one half, 2/3 beyond; the first box overlaps by 0.8, so not from 0.85 on."""
        near = (10, 10, 20, 18)
        found = self.found(precision, (near, 0.9, 0), ((60, 0, 70, 9), 0.8, 0), (LARGE, 0.7, 0))
        figures = precision.average_precisions([picture((0, SMALL), (0, LARGE))], [found], 1)
        high, low = (51 + 50 * 2 / 3) / 101, 51 / 3 / 101
        assert figures["mAP50"] == pytest.approx(high)
        assert figures["mAP50-95, all"] == pytest.approx((7 * high + 3 * low) / 10)
        # By size the mistake, as small as it is, counts against the small only.
        assert figures["mAP50-95, large"] == 1
        assert figures["mAP50-95, small"] == pytest.approx(0.7)

    def test_a_second_box_of_the_same_object_is_a_mistake(self, precision):
        first, second = (LARGE, 0.9, 0), (LARGE, 0.8, 0)
        two = [picture((0, LARGE)), picture((0, LARGE))]
        figures = precision.average_precisions(
            two, [self.found(precision, first, second), self.found(precision, (LARGE, 0.5, 0))], 1
        )
        assert figures["mAP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)

    def test_duplicates_are_suppressed_class_by_class(self, precision):
        answer = np.zeros((6, 5))
        answer[:4] = np.array([[50, 50, 20, 20], [51, 50, 20, 20], [51, 50, 20, 20], [20, 20, 8, 8], [0, 0, 9, 9]]).T
        answer[4:, :4] = [[0.9, 0.8, 0, 0], [0, 0, 0.7, 0.95]]
        found = precision.without_duplicates(answer)
        assert found.scores.tolist() == [0.95, 0.9, 0.7]
        assert found.classes.tolist() == [1, 0, 1]
        assert found.boxes.tolist() == [[16, 16, 24, 24], [40, 40, 60, 60], [41, 40, 61, 60]]
