import numpy as np
import pytest

from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.masked_passes import MaskedPasses
from fusioncam.runtime.scoring import Scorer
from fusioncam.runtime.work import Clock

SHAPE = (3, 4, 5)


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
    passes = MaskedPasses(image, Clock(), lambda *call: calls.append(call))
    passes.total = len(channels) + 2 * extra
    scorer = Scorer(Model(), SHAPE, chunk, False)
    ((scores, rows),) = scorer.finish([passes.of_channels(masks, chosen, [1, 0, 1], maps)])
    sums = pictures.sum((1, 2, 3))
    np.testing.assert_allclose(scores, np.stack([-sums, sums, -sums], 1), atol=1e-5)
    expected = [(image * m).sum() for m in maps]
    np.testing.assert_allclose(rows[:, 0], expected, atol=1e-5)
    (again,) = scorer.finish([passes.of_maps(maps)])
    np.testing.assert_allclose(again[:, 0], expected, atol=1e-5)
    assert passes.done == passes.total
    assert calls[-1] == (passes.total, passes.total)
