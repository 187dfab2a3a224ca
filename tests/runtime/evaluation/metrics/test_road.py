"""ROAD's pictures, held against one dense system written plainly, and its figures against the definition."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="ROAD needs scipy")

from fusioncam.kernels.reference import softmax
from fusioncam.manifest import SCORE_GRAPH
from fusioncam.runtime.engine.scheduler import RunningTask
from fusioncam.runtime.evaluation.metrics import road
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings, faithfulness
from fusioncam.runtime.sessions.open import open_session

CLASS = 2
SIDES, CORNERS = ((0, 1), (0, -1), (1, 0), (-1, 0)), ((1, 1), (1, -1), (-1, 1), (-1, -1))


def plain_imputed(x, stay):
    """Every missing pixel is the mean of its neighbours, those beyond the edges left out: one equation per pixel."""
    _, height, width = x.shape
    matrix, known = np.eye(height * width), np.zeros((height * width, 3))
    for i, j in np.ndindex(height, width):
        if stay[i, j]:
            known[i * width + j] = x[:, i, j]
            continue
        row = matrix[i * width + j]
        row[:] = 0
        for steps, weight in ((SIDES, 2), (CORNERS, 1)):
            for down, right in steps:
                if 0 <= i + down < height and 0 <= j + right < width:
                    row[(i + down) * width + j + right] -= weight
                    row[i * width + j] += weight
    return np.linalg.solve(matrix, known).T.reshape(x.shape)


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((3, 9, 13)).astype(np.float32)


@pytest.fixture
def saliency():
    return np.random.default_rng(1).random((9, 13), np.float32)


@pytest.mark.parametrize("percentile", [1, 10, 50, 99])
@pytest.mark.parametrize("order", road.ORDERS)
def test_filled_in_as_by_a_dense_solve(x, saliency, percentile, order):
    (limit,) = road.limits(saliency, order, [percentile]).values()
    stay = road.kept(saliency, order, limit)
    assert stay.mean() == pytest.approx(percentile / 100, abs=0.02)
    found = road.imputed(x, stay)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain_imputed(x, stay), atol=1e-5)
    np.testing.assert_array_equal(found[:, stay], x[:, stay])


def test_a_plain_picture_cannot_lose_anything(saliency):
    x = np.full((3, 9, 13), 0.3, np.float32)
    np.testing.assert_allclose(road.imputed(x, saliency > 0.9), x, atol=1e-6)


def test_which_pixels_stay(saliency):
    morf = road.kept(saliency, "road_morf", road.limits(saliency, "road_morf", [20])[20])
    lerf = road.kept(saliency, "road_lerf", road.limits(saliency, "road_lerf", [20])[20])
    assert saliency[morf].max() < saliency[~morf].min()
    assert saliency[lerf].min() > saliency[~lerf].max()


def test_pixels_at_the_threshold_go():
    m = np.arange(9, dtype=np.float32).reshape(3, 3) / 8  # its 50th percentile is the pixel in the middle
    assert road.kept(m, "road_morf", road.limits(m, "road_morf", [50])[50]).sum() == 4
    assert road.kept(m, "road_lerf", road.limits(m, "road_lerf", [50])[50]).sum() == 4


def test_noise_is_for_what_is_filled_in(x, saliency):
    stay = saliency < 0.5
    noise = np.random.default_rng(2).standard_normal(x.shape).astype(np.float32)
    found = road.imputed(x, stay, noise)
    np.testing.assert_array_equal(found[:, stay], x[:, stay])
    np.testing.assert_allclose(found - road.imputed(x, stay), noise * ~stay, atol=1e-5)


def confidence(logits):
    return softmax(logits.astype(np.float64))[:, CLASS]


@pytest.fixture(scope="module")
def ask(tiny):
    session = open_session(tiny.bundle / SCORE_GRAPH)

    def ask(x, maps, **settings):
        asked = []

        def pictures(count, picture):
            yield from ()
            asked.append(count)
            return np.concatenate([session.run(["logits"], {"image": picture(i)[None]})[0] for i in range(count)])

        seed = settings.pop("seed", 0)
        work = faithfulness(x, maps, confidence, pictures, Settings(("road",), **settings), seed)
        return RunningTask(work).result(), asked

    return ask


def test_figures_as_defined(oracle, tiny, ask, pictures):
    x, plain = pictures[0], oracle(tiny.bundle)
    m = np.random.default_rng(3).random((24, 32), np.float32)
    percentiles = (20, 60)
    changes = {}
    for order, ranked in (("road_morf", m), ("road_lerf", 1 - m)):
        pictures_left = [plain_imputed(x, ranked < np.percentile(ranked, p)) for p in percentiles]
        changes[order] = np.mean([plain.confidence(p, CLASS) for p in pictures_left]) - plain.confidence(x, CLASS)
    found, asked = ask(x, {"m": m}, percentiles=percentiles, noise=0.0)
    wanted = {**changes, "road": (changes["road_lerf"] - changes["road_morf"]) / 2}
    assert found["m"].values == pytest.approx(wanted, abs=1e-5)
    assert found["m"].flags == ()
    assert found["m"].curves["road_morf"].shape == (2,)
    assert asked == [1 + 2 * 2]


def test_the_seed_makes_the_noise(ask, pictures):
    maps = {"m": np.random.default_rng(3).random((24, 32), np.float32)}
    one, same, other = (ask(pictures[0], maps, noise=0.5, seed=seed)[0]["m"].values["road"] for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_where_every_pixel_goes_zeros_stay(oracle, tiny, ask, pictures):
    """Half of the map is zero: below its 20th percentile there is nothing."""
    x, plain = pictures[0], oracle(tiny.bundle)
    m = np.random.default_rng(3).random((24, 32), np.float32)
    m[:12] = 0
    found, asked = ask(x, {"m": m}, percentiles=(20, 80))
    assert found["m"].flags == ("road_nothing_kept",)
    assert found["m"].curves["road_morf"][0] == pytest.approx(plain.confidence(x * 0, CLASS), abs=1e-6)
    assert found["m"].curves["road_morf"][1] != found["m"].curves["road_morf"][0]
    blank, _ = ask(x, {"m": m * 0}, percentiles=(20, 80))
    assert blank["m"].flags == ("blank_map", "road_nothing_kept")
    assert blank["m"].values["road"] == 0
    assert asked == [1 + 1 + 3]
