"""Scores and confidences of targets, read out of what sessions give."""

import numpy as np
import pytest

from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import PassRequest
from fusioncam.runtime.targets.readout import BoxReadout, ClassReadout, LikenessReadout
from fusioncam.runtime.targets.resolved import ResolvedTarget, of_class

LOGITS = np.array([[1.0, 3.0, -2.0], [0.5, 0.0, 4.0]], np.float32)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "value"])
def test_classes_are_read_from_the_logits(ending):
    exact = LOGITS.astype(np.float64)
    wanted = {
        "softmax": np.exp(exact) / np.exp(exact).sum(1, keepdims=True),
        "sigmoid": 1 / (1 + np.exp(-exact)),
        "value": exact,
    }[ending]
    readout = ClassReadout([of_class(2), of_class(0)], ending)
    np.testing.assert_array_equal(readout.scores(LOGITS), exact[:, [2, 0]])
    np.testing.assert_allclose(readout.confidences(LOGITS), wanted[:, [2, 0]], rtol=1e-12)
    for n in range(2):
        chances = readout.chances(readout.scores(LOGITS)[:, n], readout.extras(LOGITS), n)
        np.testing.assert_allclose(chances, wanted[:, [2, 0][n]], rtol=1e-12)


def test_the_top_class_is_known_once_the_picture_was_read():
    readout = ClassReadout([of_class(-1), of_class(0)], "softmax", ["a", "b", "c"]).settled([LOGITS[1:]] * 2)
    top, named = readout.targets
    assert (top.class_index, top.label, top.score) == (2, "c", 4.0)
    assert (named.class_index, named.label, named.score) == (0, "a", 0.5)
    assert top.confidence + named.confidence == pytest.approx(1 - np.exp(0) / np.exp(LOGITS[1]).sum(), abs=1e-6)


def test_a_column_counts_downwards():
    readout = ClassReadout([ResolvedTarget("value", 1, sign=-1)], "value")
    assert readout.scores(LOGITS).tolist() == readout.confidences(LOGITS).tolist() == [[-3.0], [0.0]]
    assert readout.chances(readout.scores(LOGITS)[:, 0], readout.extras(LOGITS), 0).tolist() == [-3.0, 0.0]
    assert readout.settled([LOGITS[:1]]).targets[0].score == -3.0


class Products:
    """A score graph of pictures and references: their products, and twice those as confidences."""

    def __init__(self):
        self.fed = []

    def run(self, outputs, feeds):
        assert outputs == ("scores", "confidences")
        self.fed.append(len(feeds["reference"]))
        scores = feeds["image"].reshape(len(feeds["image"]), -1) @ feeds["reference"].T
        return [scores, 2 * scores]


def like(*vectors, sign=1):
    return LikenessReadout([ResolvedTarget("like", tensors={"reference": v}, sign=sign) for v in vectors], "value")


@pytest.mark.parametrize(("chunk", "singly"), [(1, False), (4, False), (100, False), (100, True)])
def test_tasks_that_share_a_run_get_the_columns_of_their_own_targets(chunk, singly):
    rng = np.random.default_rng(0)
    pictures, vectors = rng.random((5, 3, 2, 2), np.float32), rng.random((3, 12), np.float32)
    readouts = [like(vectors[0], vectors[1]), like(vectors[2], sign=-1)]
    session = Products()

    def task(readout, first, count):
        rows = []

        def fill(start, stop, out):
            out[:] = pictures[first + start : first + stop]

        yield PassRequest(count, fill, lambda _, answers: rows.append(answers), Clock(), readout=readout)
        return np.concatenate(rows)

    tasks = [task(readouts[0], 0, 3), task(readouts[1], 3, 2)]
    first, second = Scorer(session, (3, 2, 2), chunk, False, singly=singly).scheduler().run(tasks)
    exact = pictures.reshape(5, -1).astype(np.float64) @ vectors.T
    np.testing.assert_allclose(readouts[0].scores(first), exact[:3, :2], rtol=1e-6)
    np.testing.assert_allclose(readouts[0].confidences(first), 2 * exact[:3, :2], rtol=1e-6)
    np.testing.assert_allclose(readouts[1].scores(second), -exact[3:, 2:], rtol=1e-6)
    np.testing.assert_allclose(readouts[1].chances(None, readouts[1].extras(second), 0), -2 * exact[3:, 2], rtol=1e-6)
    if chunk == 100:
        assert session.fed == ([1] * 3 if singly else [3])  # one run, with the targets of both


def test_answers_of_single_targets_are_put_together():
    readout = like(np.ones(2, np.float32), np.ones(2, np.float32))
    settled = readout.settled([readout.answers([np.array([s]), np.array([p])]) for s, p in ((1, 3), (2, 4))])
    assert [(t.score, t.confidence) for t in settled.targets] == [(1, 3), (2, 4)]


def box_target(box, class_=0, anchor=-1, weights=(0, 0, 0, 0, 1)):
    kinds = {"class_index": np.int64, "box": np.float32, "anchor": np.int64, "weights": np.float32}
    values = {"class_index": class_, "box": box, "anchor": anchor, "weights": weights}
    return ResolvedTarget("box", class_, tensors={name: np.array(values[name], kinds[name]) for name in kinds})


# Two pictures, three anchors, two classes and the background, a keypoint.
FORM = np.random.default_rng(2).normal(size=(2, 3, 10)).astype(np.float32)
FORM[..., :4] = [(0, 0, 4, 4), (2, 0, 6, 4), (9, 9, 12, 12)]
FORM[1, 1, :4] = (3, 3, 7, 9)


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "value"])
def test_boxes_are_read_by_their_likeness(ending):
    def chance(row, c):
        z = row[4:].astype(np.float64)
        if c > 2 or ending == "sigmoid":
            return 1 / (1 + np.exp(-z[c]))
        return z[c] if ending == "value" else np.exp(z[c]) / np.exp(z[:3]).sum()

    shares = {0: [[1, 1 / 3, 0], [1, 1 / (16 + 24 - 1), 0]], 1: [[1 / 3, 1, 0], [1 / 3, 3 / (16 + 24 - 3), 0]]}
    targets = [box_target((0, 0, 4, 4)), box_target((2, 0, 6, 4), 1), box_target((0, 0, 4, 4), 5)]
    readout = BoxReadout(targets, ending, None, 3)
    wanted = [
        [max(share * chance(row, c) for share, row in zip(shares[b][n], FORM[n], strict=True)) for b, c in asked]
        for n, asked in enumerate([[(0, 0), (1, 1), (0, 5)]] * 2)
    ]
    answers = readout.of_form(FORM)
    np.testing.assert_allclose(answers, wanted, rtol=1e-6)
    np.testing.assert_array_equal(readout.scores(answers), answers.astype(np.float64))
    np.testing.assert_array_equal(readout.confidences(answers), readout.scores(answers))


def test_the_overlap_of_the_anchors_own_box():
    edges = (-0.5, -0.5, 0.5, 0.5, 0)
    own, best = box_target((0, 0, 4, 4), 0, 1, edges), box_target((0, 0, 4, 4), 0, -1, edges)
    answers = BoxReadout([own, best], "value", None, 3).of_form(np.abs(FORM))
    np.testing.assert_allclose(answers[:, 0], [1 / 3, 1 / 39], rtol=1e-6)
    assert {*answers[:, 1].tolist()} <= {1.0, *answers[:, 0].tolist()}


def test_a_sum_of_detections():
    """Its tensors have a row for each part; its score is their sum, and its confidence their mean."""
    parts = box_target((0, 0, 4, 4)), box_target((2, 0, 6, 4), 1)
    whole, alone = ResolvedTarget("detections", parts=parts), box_target((9, 9, 12, 12))
    readout = BoxReadout([alone, whole, alone], "sigmoid", None, 3)
    assert {len(rows) for rows in readout.tensors.values()} == {4}
    answers = readout.of_form(FORM)
    single = BoxReadout([*parts, alone], "sigmoid", None, 3).of_form(FORM).astype(np.float64)
    np.testing.assert_allclose(readout.scores(answers)[:, 1], single[:, 0] + single[:, 1])
    np.testing.assert_allclose(readout.confidences(answers)[:, 1], (single[:, 0] + single[:, 1]) / 2)
    np.testing.assert_array_equal(readout.scores(answers)[:, [0, 2]], single[:, [2, 2]])
    settled = readout.settled([answers[:1, n : n + 1] for n in range(4)])
    assert settled.targets[1].score == pytest.approx(single[0, :2].sum())
    assert settled.targets[1].confidence == pytest.approx(single[0, :2].mean())
    np.testing.assert_array_equal(
        readout.chances(readout.scores(answers)[:, 1], readout.extras(answers), 1),
        readout.confidences(answers)[:, 1],
    )
