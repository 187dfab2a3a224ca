import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fusioncam.kernels import reference

side = st.integers(1, 9)
large = st.integers(1, 23)
seeds = st.integers(0, 2**32 - 1)


def noise(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def loops(m, size):
    """up(.) pixel by pixel."""
    (h, w), (height, width) = m.shape, size
    out = np.empty(size)
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(x)
            low, right = min(top + 1, h - 1), min(left + 1, w - 1)
            upper = m[top, left] * (1 - x + left) + m[top, right] * (x - left)
            lower = m[low, left] * (1 - x + left) + m[low, right] * (x - left)
            out[i, j] = upper * (1 - y + top) + lower * (y - top)
    return out


@given(side, side, large, large, seeds)
@settings(max_examples=60, deadline=None)
def test_upsample_is_torchs_and_the_loops(h, w, height, width, seed):
    maps = noise(seed, 2, h, w)
    found = reference.upsample(maps, (height, width))
    wanted = F.interpolate(torch.from_numpy(maps)[None], (height, width), mode="bilinear", align_corners=False)[0]
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-12)
    np.testing.assert_allclose(found[1], loops(maps[1], (height, width)), atol=1e-12)


def test_upsample_takes_any_leading_axes_and_keeps_the_type():
    maps = noise(0, 2, 3, 4, 5).astype(np.float32)
    found = reference.upsample(maps, (7, 11))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1, 2], reference.upsample(maps[1, 2], (7, 11)))


def test_upsample_does_not_align_corners():
    np.testing.assert_allclose(reference.upsample(np.array([[0.0, 1.0]]), (1, 4)), [[0, 0.25, 0.75, 1]])


@given(
    arrays(np.float64, st.tuples(side, side), elements=st.floats(-1e3, 1e3)), st.floats(0.01, 1e4), st.floats(-10, 10)
)
@settings(max_examples=60, deadline=None)
def test_unit_reaches_from_0_to_1_or_is_zero(m, scale, shift):
    found = reference.unit(m)
    if np.ptp(m) > 1e-6 * np.abs(m).max() + 1e-12:
        assert (found.min(), found.max()) == (0, 1)
    else:
        assert not found.any()
    moved = reference.unit(m * scale + shift)
    if np.ptp(m) > 1e-3 and np.ptp(m * scale) > 1e-3:
        np.testing.assert_allclose(moved, found, atol=1e-6)


def test_unit_treats_each_map_by_itself():
    maps = np.stack([noise(0, 3, 4), np.full((3, 4), 5.0), noise(1, 3, 4) * 100])
    found = reference.unit(maps)
    for m, alone in zip(found, maps, strict=True):
        np.testing.assert_array_equal(m, reference.unit(alone))
    assert not found[1].any()


@given(st.floats(-1e6, 1e6, width=32), side, side, large, large)
@settings(max_examples=80, deadline=None)
def test_a_constant_stays_constant_when_upsampled_in_float32(value, h, w, height, width):
    up = reference.upsample(np.full((h, w), value, np.float32), (height, width))
    assert not reference.unit(up).any()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_constant_is_judged_relative_to_magnitude(scale):
    assert reference.is_constant(np.array(scale), np.array(scale * (1 + 5e-7)))
    assert not reference.is_constant(np.array(scale), np.array(scale * (1 + 2e-6)))
    assert not reference.is_constant(np.array(-scale), np.array(scale))
    assert reference.is_constant(np.array(0.0), np.array(0.0))


@given(st.integers(1, 6), side, side, large, large, seeds)
@settings(max_examples=40, deadline=None)
def test_grad_cam_and_score_cam_are_the_loops(channels, h, w, height, width, seed):
    activations, gradients = noise(seed, channels, h, w), noise(seed + 1, channels, h, w)
    scores, size = noise(seed + 2, channels) * 5, (height, width)
    weighted = np.zeros((h, w))
    summed = np.zeros(size)
    weights = [np.exp(s) / sum(np.exp(t) for t in scores) for s in scores]
    for a, g, s in zip(activations, gradients, weights, strict=True):
        weighted += g.mean() * a
        summed += s * loops(a, size)
    for found, wanted in (
        (reference.grad_cam(activations, gradients, size), loops(np.maximum(weighted, 0), size)),
        (reference.score_cam(activations, scores, size), np.maximum(summed, 0)),
    ):
        span = np.ptp(wanted)
        expected = (wanted - wanted.min()) / span if span > 1e-5 else found
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_relu_comes_before_up_in_grad_cam_and_after_it_in_score_cam():
    activations, size = np.array([[[-3.0, 1.0]]]), (1, 8)
    grad = reference.grad_cam(activations, np.ones((1, 1, 2)), size)
    region = reference.score_cam(activations, np.zeros(1), size)
    np.testing.assert_allclose(grad, reference.upsample(np.array([[0.0, 1.0]]), size))
    assert (grad > 0).sum() > (region > 0).sum()


def test_score_cam_of_large_logits_does_not_overflow():
    activations = noise(0, 3, 4, 4)
    found = reference.score_cam(activations, np.array([1e4, 1e4 - 1, -1e4]), (8, 8))
    np.testing.assert_allclose(found, reference.score_cam(activations, np.array([1, 0, -1e4]), (8, 8)))


def test_score_cam_of_no_channels_is_blank():
    found = reference.score_cam(np.empty((0, 3, 4)), np.empty(0), (6, 8))
    np.testing.assert_array_equal(found, np.zeros((6, 8)))


@given(
    arrays(np.float64, st.tuples(side, large), elements=st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0])),
    st.integers(0, 10**6).map(lambda n: n / 10**4),  # nearer to a tie, numpy's own rounding decides
)
@settings(max_examples=80, deadline=None)
def test_denoise_keeps_the_ties_of_the_threshold(m, theta):
    found = reference.denoise(m, theta)
    ordered, place = np.sort(m, None), theta / 100 * (m.size - 1)
    low, high = ordered[int(place)], ordered[min(int(place) + 1, m.size - 1)]
    threshold = low if low == high else low + (high - low) * (place - int(place))
    kept = np.where(m >= threshold - 1e-12, m, 0)
    np.testing.assert_allclose(found, reference.unit(kept), atol=1e-9)


def test_denoise_drops_a_tenth_and_leaves_a_map_of_mostly_zeros():
    ramp = np.arange(100.0).reshape(10, 10) / 99
    found = reference.denoise(ramp)
    assert (found > 0).sum() == 90
    assert found.flat[10] == pytest.approx(10 / 99)
    sparse = np.where(ramp > 0.5, ramp, 0)
    np.testing.assert_array_equal(reference.denoise(sparse), sparse)


@pytest.mark.parametrize(
    ("gains", "shares", "degenerate", "mixed"),
    [
        ((0.3, 0.1), (0.75, 0.25), False, False),
        ((-0.3, -0.1), (0.75, 0.25), False, False),
        ((0.3, -0.1), (1.5, -0.5), False, True),
        ((0.0, 0.2), (0.0, 1.0), False, False),
        ((0.0, 0.0), (0.5, 0.5), True, False),
        ((0.2, -0.2), (0.5, 0.5), True, False),
        ((4e-7, 4e-7), (0.5, 0.5), True, False),
        ((6e-7, 6e-7), (0.5 / (1 + 1 / 120), 0.5 / (1 + 1 / 120)), False, False),
        ((-6e-7, -6e-7), (0.5 / (1 - 1 / 120), 0.5 / (1 - 1 / 120)), False, False),
        ((float("nan"), 0.1), (0.5, 0.5), True, False),
    ],
)
def test_contributions(gains, shares, degenerate, mixed):
    found = reference.contributions(*gains)
    assert found[:2] == pytest.approx(shares, rel=1e-6)
    assert found[2:] == (degenerate, mixed)


@given(st.floats(-2, 3), st.floats(-2, 3), seeds)
@settings(max_examples=40, deadline=None)
def test_unite_and_blend_are_the_formula_pixel_by_pixel(first, second, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((5, 6)), rng.random((5, 6))
    shares = reference.Contributions(first, second, False, False)
    united, blended = np.empty((5, 6)), np.empty((5, 6))
    for at in np.ndindex(5, 6):
        one, two = first * a[at], second * b[at]
        sim = min(max(1 - abs(one - two), 0), 1)
        united[at] = one + two
        blended[at] = sim * max(one, two) + (1 - sim) * (one + two) / 2
    np.testing.assert_allclose(reference.unite(a, b, shares), reference.unit(united), atol=1e-9)
    np.testing.assert_allclose(reference.blend(a, b, shares), reference.unit(blended), atol=1e-9)


def test_fusion_cam_is_its_steps_and_asks_for_four_confidences():
    rng = np.random.default_rng(5)
    activations, gradients, size = rng.random((4, 3, 2)), rng.standard_normal((4, 3, 2)), (9, 8)
    activations[2], scores = 0, np.array([0.3, 2.0, np.nan, -1.0])
    weights, asked = rng.random(size), []

    def confidence(m):
        asked.append(m)
        return 0.1 + (weights * m).mean()

    found = reference.fusion_cam(activations, gradients, scores, confidence, size)
    live = [0, 1, 3]
    gradient_map = reference.grad_cam(activations, gradients, size)
    region = reference.score_cam(activations[live], scores[live], size)
    np.testing.assert_array_equal(found["grad_cam"], gradient_map)
    np.testing.assert_array_equal(found["score_cam"], region)
    denoised = reference.denoise(gradient_map)
    of_denoised, of_region = ((weights * m).mean() for m in (denoised, region))
    union = reference.unit((of_denoised * denoised + of_region * region) / (of_denoised + of_region))
    of_union, share = (weights * union).mean(), of_region / (of_denoised + of_region)
    one, two = of_union * union / (of_union + share), share * region / (of_union + share)
    similarity = 1 - abs(one - two)
    fused = reference.unit(similarity * np.maximum(one, two) + (1 - similarity) * (one + two) / 2)
    np.testing.assert_allclose(found["fusion_cam"], fused, atol=1e-6)
    for m, wanted in zip(asked, (np.zeros(size), denoised, region, union), strict=True):
        np.testing.assert_allclose(m, wanted, atol=1e-6)
