import tracemalloc

import numpy as np
import pytest

from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.budget.channel_plan import ExhaustivePlan
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.targets.readout import ClassReadout
from fusioncam.runtime.targets.resolved import of_class

SHAPE = (3, 4, 5)


def of_classes(*classes):
    return ClassReadout([of_class(c) for c in classes], "softmax")


class Model:
    """Logits: the sum of the picture, and minus that."""

    def run(self, outputs, feeds):
        total = feeds["image"].sum((1, 2, 3), dtype=np.float64).astype(np.float32)
        return [np.stack([total, -total], 1)]


@pytest.mark.parametrize("chunk", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("channels", [[], [2], [0, 1, 2, 3, 5], [5, 0]])
@pytest.mark.parametrize("extra", [1, 2, 5])
def test_maps_ride_along_behind_the_channels(chunk, channels, extra):
    rng = np.random.default_rng(0)
    image = rng.standard_normal(SHAPE).astype(np.float32)
    masks = MaskMaker(rng.random((6, 2, 2)).astype(np.float32), image)
    maps = [rng.random(SHAPE[1:]) for _ in range(extra)]
    chosen = np.array(channels, np.intp)
    pictures = np.empty((len(channels), *SHAPE), np.float32)
    masks.fill(chosen, pictures)
    calls = []
    passes = MaskedPasses(image, Clock(), lambda *call: calls.append(call), readout=of_classes(1, 0, 1))
    scorer = Scorer(Model(), SHAPE, chunk, False)
    plan = ExhaustivePlan(chosen)
    ((rows, extras),) = scorer.scheduler().run([passes.of_channels(masks, plan, maps, remaining=extra)])
    assert calls[0][1] == passes.total == len(channels) + 2 * extra
    sums = pictures.sum((1, 2, 3))
    np.testing.assert_allclose(plan.scores(), np.stack([-sums, sums, -sums], 1), atol=1e-5)
    np.testing.assert_allclose(extras[chosen, 0], np.log(np.exp(sums) + np.exp(-sums)), atol=1e-5)
    assert np.isnan(np.delete(extras, chosen)).all()
    expected = [(image * m).sum() for m in maps]
    np.testing.assert_allclose(rows[:, 0], expected, atol=1e-5)
    (again,) = scorer.scheduler().run([passes.of_maps(maps)])
    np.testing.assert_allclose(again[:, 0], expected, atol=1e-5)
    assert passes.done == passes.total
    assert calls[-1] == (passes.total, passes.total)


class Halves:
    """Asks for the even channels first, then for the odd ones."""

    total, missing, error, tolerance, surprise = 6, 0.0, 0.0, 1e-3, 0.0

    def __init__(self):
        self.asked, self.told = [], []

    def next(self, riding):
        self.asked.append(riding)
        return {1: np.arange(0, 6, 2), 2: np.arange(1, 6, 2)}.get(len(self.asked), np.empty(0, np.intp))

    def update(self, scores, blank):
        self.told.append((scores, blank))


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_a_plan_is_told_what_it_asked_for(chunk):
    rng = np.random.default_rng(0)
    image = rng.standard_normal(SHAPE).astype(np.float32)
    masks = MaskMaker(rng.random((6, 2, 2)).astype(np.float32), image)
    pictures = np.empty((6, *SHAPE), np.float32)
    masks.fill(np.arange(6), pictures)
    sums, plan = pictures.sum((1, 2, 3)), Halves()
    maps = [np.zeros(SHAPE[1:]), np.ones(SHAPE[1:])]
    passes = MaskedPasses(image, Clock(), readout=of_classes(0, 1))
    work = passes.of_channels(masks, plan, maps, remaining=3)
    ((rows, _),) = Scorer(Model(), SHAPE, chunk, False).scheduler().run([work])
    assert plan.asked == [2, 0, 0]
    for (scores, blank), of_some in zip(plan.told, (sums[::2], sums[1::2]), strict=True):
        np.testing.assert_allclose(scores, np.stack([of_some, -of_some], 1), atol=1e-5)
        np.testing.assert_array_equal(blank, [0, 0])
    np.testing.assert_allclose(rows[:, 0], [0, image.sum()], atol=1e-5)
    assert (passes.done, passes.total) == (8, 11)


def test_logits_of_channels_are_let_go():
    """Of a thousand classes, only those that are asked for are kept while more chunks come."""

    class Classes:
        def run(self, outputs, feeds):
            return [np.zeros((len(feeds["image"]), 1000), np.float32)]

    image = np.zeros(SHAPE, np.float32)
    masks = MaskMaker(np.random.default_rng(0).random((600, 2, 2)).astype(np.float32), image)
    passes = MaskedPasses(image, Clock(), readout=of_classes(0))
    scorer = Scorer(Classes(), SHAPE, 8, False)
    work = passes.of_channels(masks, ExhaustivePlan(np.arange(600)), [np.zeros(SHAPE[1:])], remaining=0)
    tracemalloc.start()
    try:
        list(scorer.scheduler().run([work]))
        assert tracemalloc.get_traced_memory()[1] < 600 * 1000 * 4 / 4
    finally:
        tracemalloc.stop()
