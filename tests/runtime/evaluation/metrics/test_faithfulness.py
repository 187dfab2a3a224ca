"""Faithfulness, held against the same written a second time in plain torch, picture by picture."""

import re
import tracemalloc

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fusioncam.errors import UsageError
from fusioncam.kernels.reference import softmax
from fusioncam.manifest import SCORE_GRAPH
from fusioncam.runtime.engine.host.passes import MaskedPasses
from fusioncam.runtime.engine.host.scorer import Scorer
from fusioncam.runtime.engine.progress import Clock
from fusioncam.runtime.engine.scheduler import RunningTask
from fusioncam.runtime.evaluation.metrics import road
from fusioncam.runtime.evaluation.metrics.catalogue import choices_of_metrics
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings, faithfulness
from fusioncam.runtime.probes.blur import blurred, rise_kernel
from fusioncam.runtime.probes.drop import average_drop, drop
from fusioncam.runtime.probes.pixel_curves import points
from fusioncam.runtime.sessions.open import open_session

CLASS = 2


def of_class(logits):
    return softmax(logits.astype(np.float64))[:, CLASS]


class Passes:
    """The passes of a model (N, 3, H, W) -> (N, classes), in chunks; counts and notes the pictures."""

    def __init__(self, model, chunk=7):
        self.model, self.chunk, self.counts = model, chunk, []

    def __call__(self, count, picture):
        yield from ()
        self.counts.append(count)
        starts = range(0, count, self.chunk)
        return np.concatenate(
            [self.model(np.stack([picture(i) for i in range(s, min(s + self.chunk, count))])) for s in starts]
        )


@pytest.fixture(scope="module")
def model(tiny):
    session = open_session(tiny.bundle / SCORE_GRAPH)
    return lambda x: session.run(["logits"], {"image": x})[0]


@pytest.fixture(scope="module")
def maps():
    """One as maps are, one with many equal values, one that is nearly blank."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:24, :32] / 24
    blob = np.exp(-((y - 0.4) ** 2 + (x - 0.6) ** 2) * 9).astype(np.float32)
    coarse = (rng.integers(0, 4, (24, 32)) / 3).astype(np.float32)
    point = np.zeros((24, 32), np.float32)
    point[4, 7] = 1
    return {"blob": blob, "coarse": coarse, "point": point}


def plain_curve(oracle, x, other, saliency, steps, backwards):
    """p_c after every step; deletion brings `other` in, insertion starts with it."""
    start, end = (other, x) if backwards else (x, other)
    order = torch.sort(torch.from_numpy(saliency).flatten(), descending=True, stable=True).indices
    curve, fractions = [], []
    for step in range(steps + 1):
        count = round(step * order.numel() / steps)
        picture = torch.from_numpy(start).flatten(1).clone()
        for pixel in order[:count].tolist():
            picture[:, pixel] = torch.from_numpy(end).flatten(1)[:, pixel]
        curve.append(oracle.confidence(picture.reshape(x.shape).numpy(), CLASS))
        fractions.append(count / order.numel())
    return np.array(curve), float(torch.trapezoid(torch.tensor(curve), torch.tensor(fractions)))


def plain_blur(x):
    """RISE: a delta of 11 x 11 pixels through a Gaussian filter that mirrors at its edges, cut at 4 deviations."""
    scale = (x.shape[1] * x.shape[2]) ** 0.5 / 224
    length = max(3, 2 * round((11 * scale - 1) / 2) + 1)
    deviation = 5 * scale
    reach = int(4 * deviation + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / deviation) ** 2)
    weights /= weights.sum()
    delta = np.zeros(length)
    delta[length // 2] = 1
    padded = np.pad(delta, reach, mode="symmetric")
    line = torch.tensor(
        [float((torch.from_numpy(padded[i : i + 2 * reach + 1]) * weights).sum()) for i in range(length)]
    )
    kernel = torch.outer(line, line).float()[None, None]
    return F.conv2d(torch.from_numpy(x)[:, None], kernel, padding=length // 2)[:, 0].numpy()


@pytest.mark.parametrize("steps", [1, 5, 32])
def test_insertion_and_deletion_as_written_plainly(tiny, oracle, model, pictures, maps, steps):
    x, plain = pictures[0], oracle(tiny.bundle)
    passes = Passes(model)
    settings = Settings(("insertion", "deletion"), steps=steps)
    found = RunningTask(faithfulness(x, maps, of_class, passes, settings)).result()
    for name, saliency in maps.items():
        for metric, other in (("insertion", plain_blur(x)), ("deletion", np.zeros_like(x))):
            curve, area = plain_curve(plain, x, other, saliency, steps, metric == "insertion")
            np.testing.assert_allclose(found[name].curves[metric], curve, atol=1e-5, err_msg=f"{name} {metric}")
            assert found[name].values[metric] == pytest.approx(area, abs=1e-5)
        assert found[name].flags == ()
    # The picture, the blurred one and zeros are passed once, however many maps there are.
    assert passes.counts == [3 + len(maps) * 2 * (steps - 1)]


def test_the_more_steps_than_pixels_the_less_is_asked(model):
    x = np.ones((3, 2, 2), np.float32)
    passes = Passes(lambda x: x.mean((2, 3)))
    found = RunningTask(faithfulness(x, {"m": x[0]}, of_class, passes, Settings(("deletion",), steps=9))).result()
    assert passes.counts == [5]
    np.testing.assert_array_equal(points(4, 9), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
    assert found["m"].curves["deletion"].shape == (10,)


def test_drop_and_increase_as_written_plainly(tiny, oracle, model, pictures, maps):
    plain = oracle(tiny.bundle)
    for x in pictures:
        passes = Passes(model)
        found = RunningTask(faithfulness(x, maps, of_class, passes, Settings(("drop",)))).result()
        assert passes.counts == [1 + len(maps)]
        p = plain.confidence(x, CLASS)
        for name, saliency in maps.items():
            under = plain.confidence(x * saliency, CLASS)
            wanted = {"confidence": p, "confidence_under_map": under, "drop": max(0, p - under) / p}
            assert found[name].values == pytest.approx({**wanted, "increase": float(under > p)}, abs=1e-6)


def test_metrics_share_what_they_ask(model, pictures, maps):
    passes = Passes(model)
    RunningTask(faithfulness(pictures[0], maps, of_class, passes, Settings(steps=4))).result()
    assert passes.counts == [3 + len(maps) * (1 + 2 * 3)]


def test_through_the_chunks_of_a_session(tiny, model, pictures, maps):
    settings = Settings(steps=6)
    alone = [RunningTask(faithfulness(x, maps, of_class, Passes(model), settings)).result() for x in pictures]
    scorer = Scorer(open_session(tiny.bundle / SCORE_GRAPH), (3, 24, 32), 8, pad=False)
    works = (faithfulness(x, maps, of_class, MaskedPasses(x, Clock()).of_pictures, settings) for x in pictures)
    for together, wanted in zip(scorer.scheduler().run(works), alone, strict=True):
        for name in maps:
            assert together[name].values == pytest.approx(wanted[name].values, abs=1e-6)


def test_a_map_with_nan_is_told_and_the_others_are_measured(model, pictures, maps):
    broken = maps["blob"].copy()
    broken[0, 0] = np.nan
    passes = Passes(model)
    found = RunningTask(
        faithfulness(pictures[0], {"bad": broken, **maps}, of_class, passes, Settings(steps=3))
    ).result()
    assert found["bad"].values == {}
    assert found["bad"].flags == ("nan_map",)
    without = RunningTask(faithfulness(pictures[0], maps, of_class, Passes(model), Settings(steps=3))).result()
    assert {name: found[name].values for name in maps} == {name: without[name].values for name in maps}
    assert RunningTask(faithfulness(pictures[0], {"bad": broken}, of_class, passes)).result() == {"bad": found["bad"]}
    assert len(passes.counts) == 1, "nothing is asked for a map of which nothing can be told"


def test_a_blank_map_has_the_values_of_the_formula_and_a_flag(tiny, oracle, model, pictures):
    x, plain = pictures[0], oracle(tiny.bundle)
    blank = np.zeros((24, 32), np.float32)
    found = RunningTask(faithfulness(x, {"blank": blank}, of_class, Passes(model), Settings(steps=4))).result()["blank"]
    assert found.flags == ("blank_map",)
    p, under = plain.confidence(x, CLASS), plain.confidence(x * 0, CLASS)
    assert found.values["drop"] == pytest.approx(max(0, p - under) / p, abs=1e-6)
    rows = plain_curve(plain, x, x * 0, blank, 4, backwards=False)[1]  # equal pixels go row by row
    assert found.values["deletion"] == pytest.approx(rows, abs=1e-6)


def test_without_confidence_there_is_no_drop(model, pictures, maps):
    def none(logits):
        return np.zeros(len(logits))

    found = RunningTask(faithfulness(pictures[0], maps, none, Passes(model), Settings(("drop",)))).result()
    for each in found.values():
        assert np.isnan(each.values["drop"])
        assert each.values["increase"] == 0
        assert each.flags == ("no_confidence",)


def test_drop():
    assert average_drop([0.8, 0.5], [0.2, 0.5]) == pytest.approx((0.75 + 0) / 2)
    assert average_drop([0.5], [0.9]) == 0, "a gain is no drop"
    np.testing.assert_array_equal(np.isnan(drop([0, -1, 0.5], [0.1, 0.1, 0.1])), [True, True, False])
    with pytest.raises(ValueError, match="2 pictures and 1 maps"):
        average_drop([0.5, 0.5], [0.1])


def test_what_the_model_looks_at_is_known_by_its_curves():
    """A model that sums the pixels of a square: the map of the square is the best there is, its opposite the worst."""
    square = np.zeros((40, 40), np.float32)
    square[10:20, 15:25] = 1
    x = np.random.default_rng(0).random((3, 40, 40), np.float32)

    def summed(batch):
        seen = (batch * square).sum((1, 2, 3)) / 30
        return np.stack([seen, seen * 0, seen * 0], axis=1)

    def first(logits):
        return softmax(logits.astype(np.float64))[:, 0]

    found = RunningTask(faithfulness(x, {"right": square, "wrong": 1 - square}, first, Passes(summed))).result()
    right, wrong = found["right"].values, found["wrong"].values
    assert right["drop"] == pytest.approx(0, abs=1e-6)
    assert right["deletion"] < wrong["deletion"] - 0.3
    assert right["insertion"] > wrong["insertion"]
    np.testing.assert_allclose(found["right"].curves["deletion"][3:], 1 / 3, atol=1e-6)


@pytest.mark.parametrize("size", [(224, 224), (96, 96), (32, 32), (24, 40)])
def test_the_blur_is_that_of_rise(size):
    x = np.random.default_rng(1).standard_normal((3, *size)).astype(np.float32)
    np.testing.assert_allclose(blurred(x), plain_blur(x), atol=1e-5)


def test_the_kernel_sums_to_one_and_is_symmetric():
    for length, deviation in ((11, 5.0), (3, 0.1), (3, 2.0), (25, 11.0)):
        kernel = rise_kernel(length, deviation)
        assert kernel.shape == (length,)
        assert kernel.sum() == pytest.approx(1)
        np.testing.assert_allclose(kernel, kernel[::-1])


def test_pictures_are_made_when_they_are_wanted():
    """All of them at once would take 4 x 62 x 0.6 MB."""
    x = np.ones((3, 224, 224), np.float32)
    rng = np.random.default_rng(0)
    maps = {str(k): rng.random((224, 224), np.float32) for k in range(4)}
    tracemalloc.start()
    try:
        RunningTask(faithfulness(x, maps, of_class, Passes(lambda batch: batch.mean((2, 3)), chunk=8)))
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"metrics": ("dropp",)}, f"no metric 'dropp'; there are {re.escape(choices_of_metrics())}"),
        ({"steps": 0}, "1 step or more, not 0"),
        ({"percentiles": ()}, "between 0 and 100"),
        ({"percentiles": (10, 100)}, "between 0 and 100"),
    ],
)
def test_settings_that_make_no_sense(wrong, words):
    with pytest.raises(UsageError, match=words):
        Settings(**wrong)


def test_without_scipy_there_is_no_road(monkeypatch):
    monkeypatch.setattr(road, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'fusioncam\[evaluate\]'"):
        Settings(("road",))
    Settings(("drop",))
