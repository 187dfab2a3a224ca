"""Score-CAM, Grad-CAM and Fusion-CAM of every kind of target, against the method in torch and NumPy, in float64."""

import numpy as np
import pytest
import torch

from fusioncam import Class, Explainer, Like, Region, Value
from fusioncam.kernels.rise import RandomMasks
from fusioncam.runtime.engine.host.scorer import Scorer

TOLERANCE = 1e-4
METHODS = ("fusion_cam", "grad_cam", "score_cam")


def sigmoid(z, c):
    return z.sigmoid()[:, c]


def value(z, c):
    return z[:, c]


@pytest.fixture
def x(pictures):
    return pictures[0]


def output(made, x):
    with torch.no_grad():
        return made.network(torch.from_numpy(x[None]).double())


def part_at(wins, row, column):
    """The connected part of a region, grown cell by cell."""
    part, waiting = np.zeros_like(wins), [(row, column)]
    while waiting:
        i, j = waiting.pop()
        if 0 <= i < wins.shape[0] and 0 <= j < wins.shape[1] and wins[i, j] and not part[i, j]:
            part[i, j] = True
            waiting += [(i + a, j + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return part


def assert_maps(found, oracle, x):
    score, confidence = oracle.read(x)
    assert found.score == pytest.approx(score, abs=1e-4)
    assert found.probability == pytest.approx(confidence, abs=1e-4)
    for method, wanted in oracle.maps(x).items():
        np.testing.assert_allclose(found.maps[method], wanted, rtol=0, atol=TOLERANCE, err_msg=method)
    assert found.maps["score_cam"].any()


@pytest.mark.parametrize("kind", ["by itself", "class", "point", "mask", "peak"])
def test_a_class_over_a_region(kind, made, target_oracle, over, x):
    segment = made("segment")
    z = output(segment, x)[0].numpy()
    wins = z.argmax(0)
    c = int(np.bincount(wins.ravel()).argmax())
    column, row = 21, 9  # of the input, whose pixels are two by two in a cell of the maps
    mask = np.zeros((24, 32), bool)
    mask[3:11, 5:20] = True
    share = mask.reshape(12, 2, 16, 2).mean((1, 3))
    at = int(wins[row // 2, column // 2])
    target, chosen, region = {
        "by itself": (None, c, wins == c),
        "class": (Class("tree"), 1, wins == 1),
        "point": (Region(point=(column, row)), at, part_at(wins == at, row // 2, column // 2)),
        "mask": (Region("cat", mask), 3, share),
        "peak": (Region(1, mask=mask, peak=True), 1, share),
    }[kind]
    found = Explainer(segment.bundle, methods=METHODS).explain(x, target=target)
    assert (found.class_index, found.label) == (chosen, ("sky", "tree", "road", "cat")[chosen])
    assert_maps(found, target_oracle(segment.network, over(chosen, region, peak=kind == "peak")), x)


def test_a_class_that_others_do_not_exclude(made, target_oracle, over, x):
    made_ = made("sigmoid")
    logits = made_.network.head[0](made_.network.body(torch.from_numpy(x[None]).double())).detach()
    wins = logits[0].numpy() > 0
    c = int(wins.sum((1, 2)).argmax())
    found = Explainer(made_.bundle, methods=METHODS).explain(x, c)
    network = torch.nn.Module()
    network.body, network.head = made_.network.body, made_.network.head[0]
    network.forward = lambda x: network.head(network.body(x))
    assert_maps(found, target_oracle(network, over(c, wins[c], sigmoid)), x)


@pytest.mark.parametrize("kind", ["value", "down", "mask", "peak"])
def test_a_heat_map(kind, made, target_oracle, over, x):
    heat, whole = made("heat"), np.ones((6, 8))
    mask = np.zeros((24, 32))
    mask[:9, 3:17] = 1
    share = mask.reshape(6, 4, 8, 4).mean((1, 3))
    target, read = {
        "value": (Value(1), over(1, whole, value)),
        "down": (Value(0, down=True), lambda z: [-v for v in over(0, whole, value)(z)]),
        "mask": (Region(1, mask), over(1, share, value)),
        "peak": (Region(0, mask, peak=True), over(0, share, value, peak=True)),
    }[kind]
    found = Explainer(heat.bundle, methods=METHODS).explain(x, target=target)
    assert_maps(found, target_oracle(heat.network, read), x)


@pytest.mark.parametrize("down", [False, True])
def test_a_value(down, made, target_oracle, x):
    sign, values, one = 1 - 2 * down, made("values"), made("one")
    for made_, column in ((values, 1), (one, 0)):
        found = Explainer(made_.bundle, methods=METHODS).explain(x, target=Value(column, down))
        oracle = target_oracle(made_.network, lambda z, column=column: [sign * z[0, column]] * 2)
        assert_maps(found, oracle, x)


@pytest.mark.parametrize("kind", ["vector", "list", "file", "picture"])
def test_likeness(kind, made, target_oracle, likeness, pictures, tmp_path):
    embed, x = made("embed"), pictures[0]
    vector = np.random.default_rng(4).normal(size=7) * 1e3
    np.save(tmp_path / "text.npy", vector)
    reference = {"vector": vector, "list": vector.tolist(), "file": tmp_path / "text.npy", "picture": pictures[1]}[kind]
    wanted = output(embed, pictures[1])[0].numpy() if kind == "picture" else vector
    found = Explainer(embed.bundle, methods=METHODS).explain(x, target=Like(reference))
    assert_maps(found, target_oracle(embed.network, likeness(wanted)), x)
    assert (found.class_index, found.logits) == (-1, None)
    names = {"file": "like text.npy", "picture": "like a picture"}
    assert found.title == found.label == names.get(kind, "like a vector")


@pytest.mark.parametrize("kind", ["segment", "values", "embed"])
def test_rise_of_any_target(kind, made, target_oracle, over, likeness, x):
    region = np.zeros((12, 16))
    region[2:7, 3:9] = 1
    target, read = {
        "segment": (Region(1, region.repeat(2, 0).repeat(2, 1) > 0), over(1, region)),
        "values": (Value(1, down=True), lambda z: [-z[0, 1]] * 2),
        "embed": (Like(np.arange(7.0)), likeness(np.arange(7.0))),
    }[kind]
    with Explainer(made(kind).bundle, methods=["rise"], budget=40) as explainer:
        found = explainer.explain(x, target=target)
    masks = [RandomMasks((24, 32), 8).mask(n) for n in range(40)]
    wanted = target_oracle(made(kind).network, read).oracle.rise(x, 0, masks)
    np.testing.assert_allclose(found.maps["rise"], wanted, rtol=0, atol=TOLERANCE)


def test_every_method_takes_targets(made, x):
    """Of a target that is one logit, all methods give what they give of the class."""
    segment = made("segment")
    explainer = Explainer(segment.bundle, methods=("group_cam", "recipro_cam", "score_cam_probability", "layer_cam"))
    mask = np.zeros((24, 32), bool)
    mask[6:8, 10:12] = True
    mean, peak = explainer.explain_batch([x], target=[[Region(2, mask), Region(2, mask, peak=True)]])
    for method, saliency in mean.maps.items():  # in one cell the mean is the maximum
        np.testing.assert_allclose(saliency, peak.maps[method], atol=1e-6, err_msg=method)
        assert saliency.any()


def test_targets_of_one_picture_share_its_passes(made, x, monkeypatch):
    ran = []
    scored = Scorer._scored
    monkeypatch.setattr(Scorer, "_scored", lambda self, feeds, parts: ran.append(parts) or scored(self, feeds, parts))
    explainer = Explainer(made("many").bundle, methods=METHODS)
    rng = np.random.default_rng(0)
    targets = [Region(int(c), rng.random((24, 32)) > 0.5) for c in rng.integers(0, 3, 10)]

    def passes(asked):
        ran.clear()
        found = explainer.explain_batch([x], target=[asked])
        assert [e.passes.run for e in found] == [sum(p.rows.stop - p.rows.start for parts in ran for p in parts)] * len(
            asked
        )
        return found, found[0].passes.run

    _, of_one = passes(targets[:1])
    together, of_ten = passes(targets)
    assert of_ten <= 1.1 * of_one
    for alone, found in zip(targets[:3], together, strict=False):
        own = explainer.explain(x, target=alone)
        for method, saliency in own.maps.items():
            np.testing.assert_allclose(found.maps[method], saliency, atol=1e-5, err_msg=method)
