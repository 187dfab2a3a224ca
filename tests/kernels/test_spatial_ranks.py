"""The formulas for signals (L,) and volumes (D, H, W), against torch in float64 and against pictures of one row."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from fusioncam.kernels import cam_methods, masks, reference
from fusioncam.runtime.probes.blur import blurred
from fusioncam.runtime.probes.controls import CONTROLS
from tests.oracle import Oracle

GRIDS = {"signal": ((9,), (50,)), "volume": ((3, 4, 5), (12, 9, 21))}
RANKS = pytest.mark.parametrize(("grid", "size"), GRIDS.values(), ids=GRIDS)
LINEAR = {1: "linear", 3: "trilinear"}


def features(grid, channels=7):
    rng = np.random.default_rng(0)
    return rng.standard_normal((channels, *grid)), rng.standard_normal((channels, *grid))


def up(maps, size):
    return F.interpolate(torch.from_numpy(maps)[None], size, mode=LINEAR[len(size)], align_corners=False)[0].numpy()


@RANKS
def test_up_is_that_of_torch(grid, size):
    maps, _ = features(grid)
    np.testing.assert_allclose(reference.upsample(maps, size), up(maps, size), atol=1e-12)


@RANKS
@pytest.mark.parametrize("corners", [False, True])
def test_the_extremes_are_those_of_all_places(grid, size, corners):
    maps, _ = features(grid)
    kept = {"mode": LINEAR[len(size)], "align_corners": corners}
    wide = F.interpolate(torch.from_numpy(maps.astype(np.float32)).double()[None], size, **kept)[0].numpy()
    low, high = masks.extremes(maps.astype(np.float32), size, corners)
    np.testing.assert_allclose(low.ravel(), wide.reshape(len(maps), -1).min(1), atol=1e-12)
    np.testing.assert_allclose(high.ravel(), wide.reshape(len(maps), -1).max(1), atol=1e-12)
    assert low.shape == (len(maps), *[1] * len(size))


@RANKS
def test_masked_inputs_are_within_a_millionth(grid, size):
    maps, _ = features(grid)
    maps[2], maps[4] = 0, 3
    x = np.random.default_rng(1).standard_normal((2, *size)).astype(np.float32)
    maker = masks.MaskMaker(maps.astype(np.float32), x)
    out = np.empty((len(maps), *x.shape), np.float32)
    maker.fill(np.arange(len(maps)), out)
    wanted = [Oracle.unit(m) * x for m in up(maps.astype(np.float32).astype(np.float64), size)]
    np.testing.assert_allclose(out, wanted, atol=2e-6)
    assert maker.zero.tolist() == [k == 2 for k in range(7)]
    assert maker.constant.tolist() == [k == 4 for k in range(7)]


@RANKS
def test_fusion_cam_is_that_of_the_paper(grid, size):
    class Toy(Oracle):
        """Logits of a formula in place of a session's."""

        def __init__(self):
            self.sigmoid = False
            self.weights = np.random.default_rng(2).standard_normal((3, 2, *size))

        def logits(self, x):
            return np.tanh((self.weights * x).reshape(3, -1).sum(1))

    maps, gradients = features(grid)
    oracle, x = Toy(), np.random.default_rng(3).standard_normal((2, *size))
    scores = oracle.scores(x, 1, maps)
    found = reference.fusion_cam(maps, gradients, scores, lambda m: oracle.confidence(x * m, 1), size)
    for name, wanted in oracle.maps(x, 1, maps, gradients).items():
        np.testing.assert_allclose(found[name], wanted, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("method", cam_methods.GRADIENT_MAPS)
def test_gradient_methods_of_a_signal_are_those_of_a_picture_of_one_row(method):
    maps, gradients = features((9,))
    row = cam_methods.gradient_map(method, maps[:, None], gradients[:, None], (1, 50))
    np.testing.assert_allclose(cam_methods.gradient_map(method, maps, gradients, (50,)), row[0], atol=1e-12)


def test_other_steps_of_a_signal_are_those_of_a_picture_of_one_row():
    maps, gradients = features((9,), channels=70)
    groups = cam_methods.group_maps(maps, gradients)
    np.testing.assert_allclose(groups, cam_methods.group_maps(maps[:, None], gradients[:, None])[:, 0], atol=1e-12)
    gains = np.arange(len(groups)) / 7
    np.testing.assert_allclose(
        cam_methods.group_cam_map(groups, gains, (50,)),
        cam_methods.group_cam_map(groups[:, None], gains, (1, 50))[0],
        atol=1e-12,
    )
    np.testing.assert_allclose(cam_methods.recipro_cam_map(maps[0], (9,), (50,)), Oracle.unit(up(maps[:1], (50,))[0]))


@pytest.mark.parametrize("blur", [blurred, cam_methods.blur])
@pytest.mark.parametrize("axis", [1, 2, 3])
def test_a_blur_spreads_along_every_axis(blur, axis):
    """A bar across a volume is blurred as a picture that shows the bar from its end."""
    plane = np.zeros((2, 224, 224), np.float32)
    plane[:, 100:130, 60:90] = 1
    volume = np.repeat(np.expand_dims(plane, axis), 3, axis)
    middle = blur(volume).take(1, axis)
    wanted = blur(plane)
    ratio = middle.max() / wanted.max()  # zeros beyond the ends of a short axis darken the whole
    np.testing.assert_allclose(middle, wanted * ratio, atol=1e-5)


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("size", [(64,), (17,), (5,), (6, 24, 32), (2, 3, 3)])
def test_controls_of_signals_and_volumes_are_maps_of_their_size(name, size):
    saliency = np.random.default_rng(0).random(size, np.float32)
    made = CONTROLS[name].make(saliency)
    assert (made.shape, made.dtype) == (size, np.float32)
    assert not np.array_equal(made, saliency)
    if name != "centre":
        np.testing.assert_array_equal(np.sort(made, axis=None), np.sort(saliency, axis=None))
