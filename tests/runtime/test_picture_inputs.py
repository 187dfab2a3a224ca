"""Further inputs at run time: metadata, a second picture, a depth map, from a bundle to maps."""

import numpy as np
import pytest
import torch
from PIL import Image

from fusioncam import Explainer, ImageError, UsageError
from fusioncam.kernels import reference
from fusioncam.runtime.engine import ExplainRequest

NUMBERS = np.array([0.2, -1.0, 3.0, 0.5], np.float32)
GIVEN = {"metadata": {"numbers": NUMBERS, "kind": 3}, "siamese": {}, "depth": {}, "two_towers": {}}
rng = np.random.default_rng(11)


def values(name, seed=0):
    """Values of the further inputs of one picture, by name."""
    made = np.random.default_rng(seed)
    shapes = {"siamese": ("other", (3, 24, 32)), "depth": ("depth", (1, 24, 32))}
    if name == "metadata":
        return {"numbers": made.standard_normal(4).astype(np.float32), "kind": seed % 7}
    return {n: made.standard_normal(shape).astype(np.float32) for n, shape in [shapes[name]]} if name in shapes else {}


def maps_by_hand(made, x, given, c):
    """The maps as the method says, by torch in float64 and the reference in NumPy, with a pass for every channel."""
    module = type(made.module)().double().eval()
    others = [torch.from_numpy(np.asarray(given[n])[None]) for n in module.examples]
    if not module.examples:
        others = module.example()
    others = [v.double() if v.is_floating_point() else v for v in others]

    def scores(layer, count):
        rows = others if not module.examples else [v.expand(count, *v.shape[1:]) for v in others]
        out = module.after(layer, rows)
        return out[0] if isinstance(out, tuple) else out

    def logits(pictures):
        pictures = torch.from_numpy(np.asarray(pictures, np.float64))
        rows = others if not module.examples else [v.expand(len(pictures), *v.shape[1:]) for v in others]
        return scores(module.before(pictures, rows), len(pictures)).detach().numpy()

    layer = module.before(torch.from_numpy(x[None]).double(), others).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(scores(layer, 1)[0, c], layer)
    a = layer.detach().numpy()[0]
    masks = np.stack([reference.unit(m) for m in reference.upsample(a, x.shape[1:])])
    of_channels = logits(x * masks[:, None])[:, c]

    def confidence(m):
        z = logits((x * m)[None])[0]
        return float(np.exp(z[c] - z.max()) / np.exp(z - z.max()).sum())

    return reference.fusion_cam(a, gradient.numpy()[0], of_channels, confidence, x.shape[1:]), logits(x[None])[0]


@pytest.mark.parametrize("name", ["metadata", "siamese", "depth", "two_towers"])
def test_maps_are_those_of_the_method(several, pictures, name):
    made, given, x = several(name), values(name, 3), pictures[0]
    with Explainer(made.bundle) as explainer:
        explanation = explainer.explain(x, 1, inputs=given)
    expected, logits = maps_by_hand(made, x, given, 1)
    assert np.allclose(explanation.logits, logits, rtol=0, atol=1e-5 * np.abs(logits).max())
    for method, right in expected.items():
        if method in explanation.maps:
            assert np.abs(explanation.maps[method] - right).max() < 1e-4, method
    assert {"fusion_cam", "grad_cam", "score_cam"} <= explanation.maps.keys()


@pytest.mark.parametrize("name", ["metadata", "siamese", "depth"])
def test_every_picture_keeps_its_own_inputs(several, pictures, name):
    """Tasks of several pictures share chunks; each row of a chunk has the inputs of its picture."""
    made, of_each = several(name), [values(name, seed) for seed in range(3)]
    with Explainer(made.bundle, methods=["fusion_cam", "recipro_cam", "group_cam"], chunk=5) as explainer:
        together = explainer.explain_batch(pictures, 1, inputs=of_each)
        alone = [explainer.explain(x, 1, inputs=v) for x, v in zip(pictures, of_each, strict=True)]
        others = explainer.explain_batch(pictures, 1, inputs=of_each[::-1])
    for one, two in zip(together, alone, strict=True):
        assert all(np.allclose(one.maps[m], two.maps[m], atol=1e-5) for m in one.maps)
        assert one.logits == pytest.approx(two.logits, abs=1e-5)
    assert not np.allclose(together[0].logits, others[0].logits, atol=1e-3)


def test_usual_inputs_are_those_of_all_pictures(several, pictures):
    made = several("metadata")
    with (
        Explainer(made.bundle, methods=["grad_cam"]) as plain,
        Explainer(made.bundle, methods=["grad_cam"], inputs={"numbers": NUMBERS}) as usual,
    ):
        one = plain.explain(pictures[0], 1, inputs={"numbers": NUMBERS, "kind": 2})
        two = usual.explain(pictures[0], 1, inputs={"kind": 2})
        assert np.array_equal(one.maps["grad_cam"], two.maps["grad_cam"])
        assert usual.targets(pictures[0], inputs={"kind": 2})[0].score == pytest.approx(float(two.logits.max()))
        painted = usual.overlay(pictures[0], 1, inputs={"kind": 2}, method="grad_cam")
        assert painted.shape == (24, 32, 3)


@pytest.mark.parametrize("budget", ["auto", "exact", 10])
def test_verdicts_views_and_budgets(several, pictures, budget):
    made, given = several("siamese"), values("siamese", 1)
    with Explainer(made.bundle, budget=budget if budget != 10 else 40, smooth=["flip", "noise"]) as explainer:
        assert explainer.explain(pictures[0], inputs=given, verify=True).verdict is not None


def test_second_picture_is_mirrored_with_the_first(several, pictures):
    """The view of the mirrored pair is the mirror of the view: their mean is symmetric where the pair is."""
    made, x = several("depth"), pictures[0]
    depth = values("depth", 2)["depth"]
    mirror = np.ascontiguousarray(x[..., ::-1]), np.ascontiguousarray(depth[..., ::-1])
    with (
        Explainer(made.bundle, methods=["grad_cam"], smooth=["flip"]) as smooth,
        Explainer(made.bundle, methods=["grad_cam"]) as plain,
    ):
        upright, turned = (
            plain.explain(picture, 1, inputs={"depth": other}).maps["grad_cam"]
            for picture, other in ((x, depth), mirror)
        )
        mean = reference.unit((upright + turned[:, ::-1]) / 2)
        assert np.allclose(smooth.explain(x, 1, inputs={"depth": depth}).maps["grad_cam"], mean, atol=1e-5)


def test_second_picture_in_any_form(several, pictures, tmp_path):
    made = several("siamese")
    photo = rng.integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "other.png")
    ready = ((photo / 255 - 0.5) / 0.25).astype(np.float32).transpose(2, 0, 1)
    np.save(tmp_path / "ready.npy", ready)
    forms = (tmp_path / "other.png", str(tmp_path / "other.png"), photo, Image.fromarray(photo), ready, ready[None])
    with Explainer(made.bundle, methods=["grad_cam"]) as explainer:
        maps = [
            explainer.explain(pictures[0], 0, inputs={"other": form}).maps["grad_cam"]
            for form in (*forms, str(tmp_path / "ready.npy"))
        ]
        assert all(np.allclose(m, maps[0], atol=1e-6) for m in maps)
        with pytest.raises(ImageError, match="cannot explain a float64 array"):
            explainer.explain(pictures[0], inputs={"other": np.zeros((2, 2, 2, 2))})


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_scores_of_other_precisions(several, pictures, tmp_path, precision):
    from fusioncam.export import export_model

    made, given = several("siamese"), values("siamese", 1)
    more = {"calibrate": lambda prep: iter(pictures), "accept_drift": True} if precision == "int8" else {}
    export_model(made.source, tmp_path / "m.fcam", image="image", precision=precision, **more)
    with Explainer(tmp_path / "m.fcam") as rough, Explainer(made.bundle) as exact:
        one, two = (e.explain(pictures[0], 1, inputs=given).maps["score_cam"] for e in (rough, exact))
    assert np.corrcoef(one.ravel(), two.ravel())[0, 1] > 0.95


REFUSED = {
    "missing": ({"numbers": NUMBERS}, r"also takes 'kind' int64 \(\) for each picture: give it with inputs=\{'kind'"),
    "strange": ({"age": 3}, r"no further input 'age'; it takes 'numbers' float32 \(4\), 'kind' int64 \(\)"),
    "shape": ({"numbers": [1, 2]}, r"value of input 'numbers' float32 \(4\) has shape \(2\); give one of its shape"),
    "type": ({"numbers": "a,b,c,d"}, r"input 'numbers' takes float32: give a number, several with commas"),
    "fraction": ({"kind": 1.5}, r"input 'kind' takes int64, which cannot hold the float64 numbers"),
    "table": ({"numbers": NUMBERS, "kind": 7}, r"'kind' chooses from a table of 7, numbered from 0, and is given 7"),
    "no_mapping": ([1, 2], "inputs is a mapping from names to values, not list"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(several, pictures, case):
    given, text = REFUSED[case]
    explainer = Explainer(several("metadata").bundle, methods=["grad_cam"])
    with pytest.raises(UsageError, match=text) as error:
        explainer.explain(pictures[0], inputs=given)
    assert "\n" not in str(error.value)


def test_batch_needs_an_entry_for_each_picture(several, pictures):
    explainer = Explainer(several("metadata").bundle, methods=["grad_cam"])
    with pytest.raises(UsageError, match="2 entries in inputs for 3 pictures"):
        explainer.explain_batch(pictures, inputs=[{}, {}])


def test_classifier_takes_no_inputs(tiny, pictures):
    with Explainer(tiny.bundle, methods=["grad_cam"]) as explainer:
        with pytest.raises(UsageError, match=r"no further input 'age'; it takes the picture alone"):
            explainer.explain(pictures[0], inputs={"age": 3})
        assert ExplainRequest(pictures[0]).inputs is None
