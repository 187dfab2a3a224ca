import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusioncam.kernels import masks, reference

side = st.integers(1, 12)
large = st.integers(1, 40)
seeds = st.integers(0, 2**32 - 1)


def maps_and_image(seed, channels, h, w, height, width, scale=1.0, offset=0.0):
    rng = np.random.default_rng(seed)
    maps = (rng.standard_normal((channels, h, w)) * scale + offset).astype(np.float32)
    return maps, rng.standard_normal((3, height, width)).astype(np.float32)


@given(side, side, large, large, seeds)
@settings(max_examples=80, deadline=None)
def test_the_extremes_at_the_turning_points_are_those_of_all_pixels(h, w, height, width, seed):
    maps, _ = maps_and_image(seed, 3, h, w, height, width)
    low, high = masks.extremes(maps, (height, width))
    up = reference.upsample(maps.astype(np.float64), (height, width))
    np.testing.assert_array_equal(low, up.min((1, 2), keepdims=True))
    np.testing.assert_array_equal(high, up.max((1, 2), keepdims=True))


@pytest.mark.parametrize(("small", "large"), [(7, 224), (1, 5), (14, 224), (3, 96), (224, 224), (1, 1)])
def test_the_turning_points_are_few(small, large):
    assert len(masks.turns(small, large)) <= 2 * small + 2


def test_extremes_do_not_depend_on_the_block(monkeypatch):
    maps, _ = maps_and_image(0, 70, 7, 5, 40, 30)
    whole = masks.extremes(maps, (40, 30))
    monkeypatch.setattr(masks, "BLOCK", 1)
    np.testing.assert_array_equal(masks.extremes(maps, (40, 30)), whole)


@given(side, side, large, large, seeds, st.sampled_from([(1.0, 0.0), (1e4, -3e3), (1e-5, 0.0), (0.01, 100.0)]))
@settings(max_examples=80, deadline=None)
def test_fill_is_within_a_millionth_of_float64(h, w, height, width, seed, kind):
    maps, image = maps_and_image(seed, 4, h, w, height, width, *kind)
    maker = masks.MaskMaker(maps, image)
    chosen = np.array([2, 0, 3])
    out = np.full((3, 3, height, width), np.nan, np.float32)
    maker.fill(chosen, out)
    mask = reference.unit(reference.upsample(maps.astype(np.float64), (height, width)))[chosen]
    # Where many pixels are skipped, the small map reaches beyond [0, 1], and float32 is that much coarser.
    reach = max(1.0, float(np.abs(maker.scaled).max()))
    assert (np.abs(out - image * mask[:, None]) <= 1e-6 * reach * np.abs(image) + 1e-12).all()
    if height >= 2 * h and width >= 2 * w:
        assert reach <= 3


def test_zero_and_constant_channels_are_told_from_live_ones():
    maps, image = maps_and_image(0, 6, 4, 5, 16, 20)
    maps[1], maps[2], maps[3], maps[4] = 0, 0.3, -7.1, 0
    maps[4, 2, 2] = 1e-30
    maker = masks.MaskMaker(maps, image)
    np.testing.assert_array_equal(maker.zero, [0, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(maker.constant, [0, 0, 1, 1, 1, 0])
    out = np.ones((6, 3, 16, 20), np.float32)
    maker.fill(np.arange(6), out)
    assert not out[1:5].any()
    assert out[0].any()
    assert out[5].any()


@given(st.floats(-1e6, 1e6, width=32), side, side, large, large)
@settings(max_examples=60, deadline=None)
def test_any_constant_is_seen_as_one(value, h, w, height, width):
    maps, image = np.full((2, h, w), value, np.float32), np.ones((3, height, width), np.float32)
    maker = masks.MaskMaker(maps, image)
    assert (maker.zero | maker.constant).all()


def test_a_1x1_map_has_no_live_channel():
    maps, image = maps_and_image(0, 5, 1, 1, 9, 9)
    assert masks.MaskMaker(maps, image).constant.all()


def test_fill_writes_only_where_it_is_told():
    maps, image = maps_and_image(0, 4, 3, 3, 8, 8)
    before = image.copy(), maps.copy()
    buffer = np.full((4, 3, 8, 8), 5, np.float32)
    maker = masks.MaskMaker(maps, image)
    maker.fill(np.array([1]), buffer[2:3])
    assert (buffer[[0, 1, 3]] == 5).all()
    maker.fill(np.array([], np.intp), buffer[:0])
    np.testing.assert_array_equal(before[0], image)
    np.testing.assert_array_equal(before[1], maps)


def test_full_size_maps_multiply_every_colour():
    rng = np.random.default_rng(0)
    image, maps = rng.standard_normal((3, 4, 5)).astype(np.float32), [rng.random((4, 5)), rng.random((4, 5))]
    out = np.empty((2, 3, 4, 5), np.float32)
    masks.write((image * m for m in maps), out)
    for at in np.ndindex(out.shape):
        n, c, y, x = at
        assert out[at] == pytest.approx(image[c, y, x] * maps[n][y, x], rel=1e-6)
