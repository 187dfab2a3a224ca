import numpy as np
import pytest

from fusioncam.errors import FusionCamError
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.scoring import Clock, MaskedPasses, Scorer, probabilities, refuse_nan

SHAPE = (3, 4, 5)


class Model:
    """Logits: the sum of the picture, and minus that. Keeps what it was fed."""

    def __init__(self):
        self.fed = []

    def run(self, outputs, feeds):
        assert list(outputs) == ["logits"]
        self.fed.append(feeds["image"].copy())
        total = feeds["image"].sum((1, 2, 3), dtype=np.float64).astype(np.float32)
        return [np.stack([total, -total], 1)]


def numbered(start, stop, out):
    """Picture i is i everywhere."""
    assert out.shape == (stop - start, *SHAPE)
    out[:] = np.arange(start, stop).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("pad", [False, True])
@pytest.mark.parametrize("count", [0, 1, 4, 5, 8, 11])
def test_every_picture_is_passed_once_and_in_order(count, pad):
    model = Model()
    chunks = list(Scorer(model, SHAPE, 4, pad).run(count, numbered))
    assert [start for start, _ in chunks] == list(range(0, count, 4))
    sums = np.concatenate([logits[:, 0] for _, logits in chunks]) if chunks else np.empty(0)
    np.testing.assert_array_equal(sums, np.arange(count) * 60)
    assert [len(fed) for fed in model.fed] == [4 if pad else min(4, count - s) for s in range(0, count, 4)]


def test_the_buffer_is_no_larger_than_the_chunk_or_the_work():
    seen = []

    def fill(start, stop, out):
        seen.append(out.base.shape[0])
        out[:] = 0

    list(Scorer(Model(), SHAPE, 1000, False).run(3, fill))
    list(Scorer(Model(), SHAPE, 4, False).run(11, fill))
    assert seen == [3, 4, 4, 4]


def test_two_runs_at_once_do_not_share_a_buffer():
    scorer = Scorer(Model(), SHAPE, 2, False)
    first, second = scorer.run(4, numbered), scorer.run(4, lambda start, stop, out: out.fill(9))
    sums = [logits[:, 0].tolist() for pair in zip(first, second, strict=True) for _, logits in pair]
    assert sums == [[0, 60], [540, 540], [120, 180], [540, 540]]


def test_a_failing_session_is_one_clear_error():
    class Broken:
        def run(self, outputs, feeds):
            raise RuntimeError("\n  out of memory\nand a long trace")

    with pytest.raises(FusionCamError, match=r"^onnxruntime cannot run the model: out of memory; a smaller chunk"):
        list(Scorer(Broken(), SHAPE, 2, False).run(1, numbered))


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
    passes = MaskedPasses(Scorer(Model(), SHAPE, chunk, False), image, Clock(), lambda *call: calls.append(call))
    passes.total = len(channels) + 2 * extra
    scores, rows = passes.of_channels(masks, chosen, [1, 0, 1], maps)
    sums = pictures.sum((1, 2, 3))
    np.testing.assert_allclose(scores, np.stack([-sums, sums, -sums], 1), atol=1e-5)
    expected = [(image * m).sum() for m in maps]
    np.testing.assert_allclose(rows[:, 0], expected, atol=1e-5)
    np.testing.assert_allclose(passes.of_maps(maps)[:, 0], expected, atol=1e-5)
    assert passes.done == passes.total
    assert calls[-1] == (passes.total, passes.total)


def test_probabilities_of_a_softmax_and_a_sigmoid():
    logits = np.array([[1.0, 2.0, -1.0]], np.float32)
    powers = np.exp([1.0, 2.0, -1.0])
    for ending in ("logits", "softmax"):
        np.testing.assert_allclose(probabilities(logits, ending)[0], powers / powers.sum())
    np.testing.assert_allclose(probabilities(logits, "sigmoid")[0], powers / (1 + powers))


@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
def test_probabilities_of_large_logits(ending):
    found = probabilities(np.array([-2000, 2000], np.float32), ending)
    np.testing.assert_array_equal(found, [0, 1])


def test_refuse_nan():
    refuse_nan(np.ones(3, np.float32), "logits")
    for value in (np.nan, np.inf, -np.inf):
        with pytest.raises(FusionCamError, match="NaN or infinite gradients"):
            refuse_nan(np.array([1, value], np.float32), "gradients")


def test_the_clock_books_every_second_once():
    clock = Clock()
    start = clock._last
    for stage in ("a", "b", "a"):
        clock.lap(stage)
    assert list(clock.laps) == ["a", "b"]
    assert sum(clock.laps.values()) == pytest.approx(clock._last - start)
