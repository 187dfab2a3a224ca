"""Random masks, the mean of what they show, and the standard error of that mean."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fusioncam.kernels.rise import MaskedMeans, RandomMasks

SIZE = (30, 44)
MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@pytest.mark.parametrize("size", [(50,), SIZE, (5, 12, 20)], ids=["signal", "picture", "volume"])
def test_a_mask_is_cells_enlarged_linearly_and_cut_at_a_shift(size):
    masks = RandomMasks(size, 8, seed=3)
    for index in (0, 7, 4000):
        cells, shift = masks.drawn(index)
        assert {*np.unique(cells)} <= {0, 1}
        grid = tuple(min(8, n) for n in size)
        pixels = [-(-n // g) for n, g in zip(size, grid, strict=True)]
        assert cells.shape == grid
        assert all(0 <= s < p for s, p in zip(shift, pixels, strict=True))
        whole = [(g + 1) * p for g, p in zip(grid, pixels, strict=True)]
        large = F.interpolate(torch.from_numpy(cells)[None, None], whole, mode=MODES[len(size)])[0, 0].numpy()
        cut = large[tuple(slice(s, s + n) for s, n in zip(shift, size, strict=True))]
        np.testing.assert_allclose(masks.mask(index), cut, atol=1e-5)


def test_every_pixel_shows_half_the_time_and_no_two_masks_are_the_same():
    """The error of a mean of 2000 masks is at most .5 / sqrt(2000) = .011 at each pixel."""
    masks = RandomMasks(SIZE, 8)
    drawn = np.stack([masks.mask(n) for n in range(2000)])
    assert abs(drawn.mean(axis=0) - 0.5).max() < 5 * 0.011
    shifts = np.array([masks.drawn(n)[1] for n in range(2000)])
    assert [len(np.unique(of_axis)) for of_axis in shifts.T] == [4, 6]  # every shift of a cell of 4 x 6 pixels
    assert len({m.tobytes() for m in drawn}) == len(drawn)
    assert not np.array_equal(RandomMasks(SIZE, 8, seed=1).mask(0), drawn[0])


def scores_of(masks):
    """Scores of two targets: the share of a square that shows, and the same with noise around 3."""
    shown = masks[:, 6:14, 10:24].mean(axis=(1, 2)).astype(np.float64)
    return np.stack([shown, 3 + 0.1 * shown + np.sin(1e4 * shown)], axis=1)


def means_of(seed, count):
    masks, means = RandomMasks(SIZE, 8, seed), MaskedMeans(SIZE, 2)
    drawn = np.stack([masks.mask(n) for n in range(count)])
    for part in np.array_split(drawn, 3):
        means.add(part, scores_of(part))
    return drawn, means


def test_the_map_is_the_weighted_mean_of_masks_less_what_chance_showed():
    drawn, means = means_of(5, 200)
    masks, scores = drawn.astype(np.float64), scores_of(drawn)
    for s, found in zip(scores.T, means.maps(), strict=True):
        mean = sum(s_i * m / 0.5 for s_i, m in zip(s, masks, strict=True)) / len(s)
        chance = masks.mean(axis=0) / 0.5 - 1
        np.testing.assert_allclose(found, mean - s.mean() * chance, atol=1e-6)


def test_the_standard_error_is_that_of_maps_by_other_masks_and_falls_with_the_root_of_their_number():
    """The mean score, which is the same at all pixels, is left out: it does not change a map in [0, 1]."""
    errors = {}
    for count in (50, 200):
        drawn, runs = zip(*(means_of(seed, count) for seed in range(24)), strict=True)
        levels = [scores_of(masks).mean(axis=0)[:, None, None] for masks in drawn]
        maps = np.stack([means.maps() - level for means, level in zip(runs, levels, strict=True)])
        spread = np.sqrt(maps.var(axis=0, ddof=1).mean(axis=(1, 2)))
        estimated = np.mean([means.errors() * np.ptp(means.maps(), axis=(1, 2)) for means in runs], axis=0)
        np.testing.assert_allclose(estimated, spread, rtol=0.1)
        errors[count] = estimated
    np.testing.assert_allclose(errors[50] / errors[200], 2, rtol=0.1)


def test_scores_that_do_not_differ_have_a_constant_map_without_an_error():
    means = MaskedMeans(SIZE, 1)
    means.add(np.stack([RandomMasks(SIZE, 8).mask(n) for n in range(20)]), np.full((20, 1), 0.3))
    assert np.ptp(means.maps()) < 1e-12
    assert means.errors() == 0
