"""The family of maps against its formulas written a second time, plainly, with torch's interpolation and blur."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.methods import EVERY, FUSED, GRADIENT, recipe

TOLERANCE = 1e-4
LIVE = 9  # of the tiny network's 12 channels


def relu(m):
    return np.maximum(m, 0)


def corners_up(m, size):
    maps = torch.from_numpy(np.asarray(m, np.float64))[None, None]
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)[0, 0].numpy()


def blurred(x):
    """A Gaussian of 51 pixels, sigma 50, edges mirrored: weights and padding written out."""
    at = np.arange(51) - 25
    weights = np.exp(-(at**2) / (2 * 50.0**2))
    weights /= weights.sum()
    for axis in (1, 2):
        padded = np.pad(x.astype(np.float64), [(25, 25) if a == axis else (0, 0) for a in range(3)], mode="reflect")
        x = sum(w * np.take(padded, range(i, i + x.shape[axis]), axis) for i, w in enumerate(weights))
    return x


class Family:
    """What every method makes of A and g (K, h, w), channel by channel."""

    def __init__(self, oracle, x, c, activations, gradients, weights=None):
        self.weights = weights
        self.o, self.x, self.c, self.a, self.g, self.size = oracle, x, c, activations, gradients, x.shape[1:]

    def finished(self, small):
        return self.o.unit(self.o.up(relu(small), self.size))

    def weighted(self, weights):
        return sum(w * a for w, a in zip(weights, self.a, strict=True))

    def grad_cam(self):
        return self.finished(self.weighted([g.mean() for g in self.g]))

    def grad_cam_pp(self, eps=0.0):
        weights = []
        for a, g in zip(self.a, self.g, strict=True):
            below = 2 * g**2 + a.sum() * g**3 + eps
            share = np.where(below == 0, 0, g**2 / np.where(below == 0, 1, below))
            weights.append((share * relu(g)).sum())
        return self.finished(self.weighted(weights))

    def grad_cam_pp_eps(self):
        return self.grad_cam_pp(1e-6)

    def xgrad_cam(self):
        return self.finished(
            self.weighted([(g * a).sum() / (a.sum() + 1e-7) for a, g in zip(self.a, self.g, strict=True)])
        )

    def hires_cam(self):
        return self.finished(sum(g * a for a, g in zip(self.a, self.g, strict=True)))

    def layer_cam(self):
        return self.finished(sum(relu(g) * a for a, g in zip(self.a, self.g, strict=True)))

    def region(self, weights):
        return self.o.unit(relu(sum(w * self.o.up(a, self.size) for w, a in zip(weights, self.a, strict=True))))

    def masked(self, up):
        return [self.x * self.o.unit(up(a, self.size)) for a in self.a]

    def score_cam(self):
        logits = [self.o.logits(m)[self.c] for m in self.masked(self.o.up)]
        return self.region(torch.tensor(logits).softmax(0).numpy())

    def score_cam_probability(self):
        return self.region([self.o.confidence(m, self.c) for m in self.masked(self.o.up)])

    def score_cam_increase(self):
        blank = self.o.logits(self.x * 0)[self.c]
        return self.region([self.o.logits(m)[self.c] - blank for m in self.masked(self.o.up)])

    def score_cam_corners(self):
        logits = [self.o.logits(m)[self.c] for m in self.masked(corners_up)]
        return self.finished(self.weighted(torch.tensor(logits).softmax(0).numpy()))

    def group_cam(self):
        behind = blurred(self.x)
        base, summed = self.o.confidence(behind, self.c), 0
        weighted = torch.from_numpy(np.stack([g.mean() * a for a, g in zip(self.a, self.g, strict=True)]))
        for group in weighted.chunk(32):
            m = relu(group.sum(0).numpy())
            m = np.where(m > np.percentile(m, 70), m, 0)
            mask = self.o.unit(self.o.up(m, self.size))
            summed = summed + (self.o.confidence(self.x * mask + behind * (1 - mask), self.c) - base) * mask
        return self.o.unit(relu(summed))

    def recipro_cam(self):
        """The network's tail, weights and all, on A with every place but one blanked."""
        w = {name: array.astype(np.float64) for name, array in self.weights.items()}
        scores = np.empty(self.a.shape[1:])
        for place in np.ndindex(*scores.shape):
            pooled = self.a[(slice(None), *place)] / scores.size  # the mean of one place and zeros
            hidden = relu(w["w3"] @ pooled + w["b3"])
            scores[place] = (w["w4"] @ hidden + w["b4"])[self.c]
        return self.o.unit(self.o.up(scores, self.size))

    def fused(self, how, gradient, region, theta):
        o, x, c = self.o, self.x, self.c
        map_of_gradient, r = getattr(self, gradient)(), getattr(self, region)()
        d = o.unit(np.where(map_of_gradient >= np.percentile(map_of_gradient, theta), map_of_gradient, 0))
        b0 = o.confidence(x * 0, c)
        b_d, b_r = o.confidence(x * d, c) - b0, o.confidence(x * r, c) - b0
        d_share, r_share = (b / (b_d + b_r + 1e-8) for b in (b_d, b_r))
        u = o.unit(d_share * d + r_share * r)
        b_u = o.confidence(x * u, c) - b0
        if how == "union_cam":
            return u if b_u > b_r else r
        one, two = (b / (b_u + r_share + 1e-8) for b in (b_u, r_share))
        one, two = one * u, two * r
        similar = np.clip(1 - abs(one - two), 0, 1)
        return o.unit(similar * np.maximum(one, two) + (1 - similar) * (one + two) / 2)


@pytest.fixture
def family(tiny, oracle):
    return lambda x, c: Family(oracle(tiny.bundle), x, c, *tiny.network.evidence(x, c), tiny.network.weights)


@pytest.mark.parametrize("class_index", range(5))
@pytest.mark.parametrize("method", [m for m in EVERY if m not in (*FUSED, "rise")])
def test_every_method_is_its_formula(tiny, family, pictures, method, class_index):
    found = Explainer(tiny.bundle, methods=[method]).explain(pictures[1], class_index)
    wanted = getattr(family(pictures[1], class_index), method)()
    assert list(found.maps) == [method]
    np.testing.assert_allclose(found.maps[method], wanted, rtol=0, atol=TOLERANCE)
    assert found.maps[method].any() or f"flat_{method}" in found.flags


FUSIONS = [
    "union_cam",
    "fusion_cam:layer_cam+score_cam",
    "fusion_cam:grad_cam+group_cam",
    "fusion_cam:hires_cam+score_cam_probability:20",
    "union_cam:xgrad_cam+group_cam:0",
    "fusion_cam:grad_cam_pp+score_cam_corners:12.5",
    "fusion_cam:grad_cam+recipro_cam",
]


@pytest.mark.parametrize("class_index", [0, 2])
@pytest.mark.parametrize("method", FUSIONS)
def test_any_gradient_method_is_fused_with_any_region_method(tiny, family, pictures, method, class_index):
    found = Explainer(tiny.bundle, methods=[method]).explain(pictures[0], class_index)
    r = recipe(method)
    wanted = family(pictures[0], class_index).fused(r.fused, r.gradient, r.region, r.theta)
    np.testing.assert_allclose(found.maps[method], wanted, rtol=0, atol=TOLERANCE)


ALL = [*EVERY, *FUSIONS]


def test_maps_are_the_same_alone_and_in_company(tiny, pictures):
    every = Explainer(tiny.bundle, methods=ALL).explain_batch(pictures[:2], [[0, 3], [1]])
    for method in ALL:
        alone = Explainer(tiny.bundle, methods=[method]).explain_batch(pictures[:2], [[0, 3], [1]])
        for one, many in zip(alone, every, strict=True):
            np.testing.assert_allclose(one.maps[method], many.maps[method], atol=1e-6, err_msg=method)


@pytest.mark.parametrize(
    ("methods", "passes"),
    [
        (GRADIENT, 0),
        (["score_cam", "score_cam_probability", "score_cam_increase"], LIVE + 1),
        (["score_cam", "score_cam_corners"], 2 * LIVE + 1),
        (["fusion_cam", "union_cam", *GRADIENT, "score_cam"], LIVE + 1 + 3),
        (["fusion_cam", "fusion_cam:grad_cam+score_cam"], LIVE + 1 + 3),
        (["fusion_cam", "fusion_cam:layer_cam+score_cam"], LIVE + 1 + 2 + 1 + 2),  # both D, one R, both U
        (["fusion_cam", "fusion_cam:grad_cam+score_cam:20"], LIVE + 1 + 2 + 1 + 2),
        (["recipro_cam"], 0),
    ],
)
def test_no_pass_is_run_twice(tiny, pictures, counted, methods, passes):
    explainer, counter = counted(tiny.bundle, methods=methods)
    found = explainer.explain(pictures[0], 1)
    assert counter.pictures == found.passes.run == passes
    assert list(found.maps) == list(methods)


def test_group_cam_needs_a_pass_per_group_and_one_for_the_blurred_picture(tiny, pictures, counted):
    explainer, counter = counted(tiny.bundle, methods=["group_cam", "fusion_cam:grad_cam+group_cam"])
    found = explainer.explain(pictures[0], 1)
    groups = 0
    for a, g in zip(*tiny.network.evidence(pictures[0], 1), strict=True):  # fewer channels than groups: each is one
        positive = relu(g.mean() * a)
        groups += bool((positive > np.percentile(positive, 70)).any())
    assert counter.pictures == found.passes.run == groups + 1 + 2 + 2  # x * 0 and x * D; x * R and x * U


@pytest.mark.parametrize("ending", ["Softmax", "Sigmoid"])
def test_probabilities_are_of_the_models_own_kind(make_tiny, oracle, pictures, ending):
    made = make_tiny(ending=ending)
    for method in ("score_cam_probability", "group_cam"):
        found = Explainer(made.bundle, methods=[method]).explain(pictures[0], 2)
        wanted = Family(oracle(made.bundle, ending.lower()), pictures[0], 2, *made.network.evidence(pictures[0], 2))
        np.testing.assert_allclose(found.maps[method], getattr(wanted, method)(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("budget", [0.5, 6, "auto"])
def test_probabilities_cannot_be_guessed(tiny, budget):
    for method in ("score_cam_probability", "fusion_cam:grad_cam+score_cam_probability"):
        with pytest.raises(UsageError, match="use budget exact"):
            Explainer(tiny.bundle, methods=[method], budget=budget)


def test_probabilities_under_a_budget_that_leaves_nothing_to_guess(tiny, pictures):
    found, exact = (
        Explainer(tiny.bundle, methods=["score_cam_probability"], budget=budget).explain(pictures[0], 1)
        for budget in (1.0, "exact")
    )
    np.testing.assert_array_equal(found.maps["score_cam_probability"], exact.maps["score_cam_probability"])


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize(("zero", "constant"), [(range(12), ()), ((), range(12)), (range(6), range(6, 12))])
def test_layers_without_evidence_give_blank_maps_and_a_flag(make_tiny, pictures, method, zero, constant):
    made = make_tiny(zero=tuple(zero), constant=tuple(constant))
    found = Explainer(made.bundle, methods=[method]).explain(pictures[0], 1)
    assert np.isfinite(found.maps[method]).all()
    assert not found.maps[method].any()
    assert f"flat_{method}" in found.flags
    assert found.summary()["flags"][f"flat_{method}"]


@pytest.mark.parametrize("budget", [8, 14, 20, 30, 50])
@pytest.mark.parametrize(
    "methods",
    [
        ["score_cam", "score_cam_corners"],
        ["fusion_cam", "group_cam"],
        ["fusion_cam", "group_cam", "score_cam_corners", "union_cam:layer_cam+group_cam"],
        ["group_cam"],
        ["fusion_cam:grad_cam+group_cam", "group_cam"],
    ],
)
def test_a_number_of_passes_goes_for_all_that_is_asked_for(make_tiny, pictures, methods, budget):
    made = make_tiny(channels=24)
    exact = Explainer(made.bundle, methods=methods).explain(pictures[0], 1)
    try:
        found = Explainer(made.bundle, methods=methods, budget=budget).explain(pictures[0], 1)
    except UsageError as error:
        assert "too small" in str(error)  # noqa: PT017  (which budgets are depends on the methods)
        assert budget < exact.passes.run
        return
    assert found.passes.run <= budget
    if budget >= exact.passes.run:
        assert found.passes.run == exact.passes.run


@pytest.mark.parametrize("methods", [["score_cam", "score_cam_corners"], ["fusion_cam:layer_cam+score_cam_corners"]])
def test_a_picture_without_a_live_channel_takes_no_pass_for_them(make_tiny, pictures, methods):
    made = make_tiny(constant=tuple(range(12)))
    found = Explainer(made.bundle, methods=methods).explain(pictures[0], 1)
    assert all(not m.any() for m in found.maps.values())
