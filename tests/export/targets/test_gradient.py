"""The gradient of every kind of target equals autograd's in float64, and scores are those of the definition."""

import numpy as np
import pytest
import torch

from fusioncam.export import export_model

UP = 'u = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (z, roi, double) y = Identity (u)'
MAPS = {
    "mean": ([0, 3], [False, False]),
    "maximum": ([2, 1], [True, True]),
    "either": ([1, 2], [True, False]),
}
ENDINGS = {
    "softmax": lambda z: z.softmax(1),
    "sigmoid": torch.sigmoid,
    "value": lambda z: z,
}


@pytest.fixture(scope="module", params=ENDINGS)
def segmenter(request, dense, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    export_model(dense.save(folder / "m.onnx", UP), folder / "m.fcam", ending=request.param, layer="f")
    return folder / "m.fcam", ENDINGS[request.param]


@pytest.fixture(scope="module")
def pictures(dense):
    return np.random.default_rng(1).normal(size=(2, 3, *dense.SIZE)).astype(np.float32)


def upsampled(dense, x):
    features, weights = dense.features(x)
    features = features.detach().requires_grad_()
    maps = torch.nn.functional.interpolate(dense.maps(features, weights), scale_factor=2, mode="bilinear")
    return features, maps


def over(values, region, peak):
    """The mean of a map over a region, or the maximum there."""
    region = torch.from_numpy(region).double()
    return values[region > 0].max() if peak else (values * region).sum() / region.sum()


def crosswise(values, classes, region, peaks):
    """One number for each target, for each of the maps."""
    targets = list(zip(classes, region, peaks, strict=True))
    return torch.stack([torch.stack([over(v[c], r, p) for c, r, p in targets]) for v in values])


def regions(dense, count):
    rng = np.random.default_rng(2)
    return (rng.random((count, *dense.SIZE)) * (rng.random((count, *dense.SIZE)) < 0.4)).astype(np.float32)


def assert_close(found, exact, relative=1e-5):
    exact = exact.detach().numpy()
    assert np.abs(found - exact).max() <= relative * np.abs(exact).max()


@pytest.mark.parametrize("name", MAPS)
def test_a_class_over_a_region(name, segmenter, dense, pictures, run):
    (bundle, probability), (classes, peaks), region = segmenter, MAPS[name], regions(dense, 2)
    features, maps = upsampled(dense, pictures)
    wanted = torch.stack([over(maps[n, c], region[n], peaks[n]) for n, c in enumerate(classes)])
    sure = torch.stack([over(probability(maps)[n, c], region[n], peaks[n]) for n, c in enumerate(classes)])
    (gradient,) = torch.autograd.grad(wanted.sum(), features)
    targets = {"class_index": np.array(classes), "region": region, "peak": np.array(peaks)}
    found = run(bundle / "explain.onnx", {"image": pictures, **targets})
    assert_close(found["activations"], features)
    assert_close(found["logits"], maps)
    assert_close(found["scores"], wanted)
    assert_close(found["confidences"], sure)
    assert_close(found["gradients"], gradient)


def test_the_top_class_is_that_of_the_highest_mean_in_the_region(segmenter, dense, pictures, run):
    bundle, region = segmenter[0], regions(dense, 2)
    _, maps = upsampled(dense, pictures)
    top = (maps * torch.from_numpy(region)[:, None]).sum((2, 3)).argmax(1).numpy()
    for peak in (False, True):
        of_top, of_class = (
            run(
                bundle / "explain.onnx",
                {"image": pictures, "class_index": c, "region": region, "peak": np.full(2, peak)},
            )
            for c in (np.full(2, -1), top)
        )
        for name, values in of_top.items():
            np.testing.assert_array_equal(values, of_class[name])


def test_every_target_meets_every_picture(segmenter, dense, pictures, run):
    (bundle, probability), region = segmenter, regions(dense, 5)
    classes, peaks = np.array([0, 1, 2, 3, 3]), np.array([False, True, False, True, False])
    _, maps = upsampled(dense, pictures)
    found = run(bundle / "score.onnx", {"image": pictures, "class_index": classes, "region": region, "peak": peaks})
    for name, values in (("scores", maps), ("confidences", probability(maps))):
        assert_close(found[name], crosswise(values, classes, region, peaks))


def test_masks_of_the_layer_meet_every_target(segmenter, dense, pictures, run):
    bundle, region = segmenter[0], regions(dense, 3)
    masks = np.random.default_rng(3).random((4, 1, 6, 8)).astype(np.float32)
    features, weights = dense.features(pictures[:1])
    maps = dense.maps(features * torch.from_numpy(masks), weights)
    maps = torch.nn.functional.interpolate(maps, scale_factor=2, mode="bilinear")
    classes, peaks = np.array([3, 1, 0]), np.array([False, True, False])
    told = {"class_index": classes, "region": region, "peak": peaks}
    found = run(bundle / "head.onnx", {"image": pictures[:1], "masks": masks, **told})
    assert_close(found["scores"], crosswise(maps, classes, region, peaks))


NORMALISED = "n = ReduceL2 <keepdims = 1> (e, class_axis) m = Max (n, least) y = Div (e, m)"


@pytest.mark.parametrize("text", ["y = Identity (e)", NORMALISED], ids=["plain", "normalised"])
def test_likeness_to_a_reference(text, dense, pictures, run, tmp_path):
    export_model(dense.save(tmp_path / "m.onnx", text), tmp_path / "m.fcam", task="embed", layer="f")
    features, weights = dense.features(pictures)
    features = features.detach().requires_grad_()
    vector = dense.embedding(features, weights)
    references = np.random.default_rng(4).normal(size=(5, 7)).astype(np.float32)
    every = torch.nn.functional.cosine_similarity(vector[:, None], torch.from_numpy(references).double()[None], dim=2)
    own = every.diagonal()
    (gradient,) = torch.autograd.grad(own.sum(), features)
    found = run(tmp_path / "m.fcam" / "explain.onnx", {"image": pictures, "reference": references[:2]})
    assert_close(found["scores"], own)
    assert_close(found["confidences"], own)
    assert_close(found["gradients"], gradient)
    found = run(tmp_path / "m.fcam" / "score.onnx", {"image": pictures, "reference": references})
    assert_close(found["scores"], every)
    blank = run(tmp_path / "m.fcam" / "explain.onnx", {"image": 0 * pictures, "reference": references[:2]})
    assert np.isfinite(blank["gradients"]).all()  # an embedding of zeros is like nothing
    assert not blank["scores"].any()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("task", ["segment", "embed"])
def test_scores_of_another_precision(precision, task, dense, pictures, run, tmp_path):
    text = UP if task == "segment" else "y = Identity (e)"
    photos = {"calibrate": lambda prep: list(pictures)} if precision == "int8" else {}
    manifest = export_model(
        dense.save(tmp_path / "m.onnx", text), tmp_path / "m.fcam", task=task, precision=precision, layer="f", **photos
    )
    assert manifest.score_precision == {"fp16": "float16", "int8": "int8"}[precision]
    assert (manifest.drift is not None) == (precision == "int8")
    rng = np.random.default_rng(5)
    targets = {t.name: rng.random((3, *t.shape)).astype(t.dtype) for t in manifest.form.targets}
    exact = run(tmp_path / "m.fcam" / "explain.onnx", {"image": pictures[[0, 0, 0]], **targets})
    half = pictures[:1].astype(np.float16 if precision == "fp16" else np.float32)
    rough = run(tmp_path / "m.fcam" / "score.onnx", {"image": half, **targets})
    assert all(values.dtype == np.float32 for values in rough.values())
    assert 0 < np.abs(rough["scores"][0] - exact["scores"]).max() < 0.05 * np.abs(exact["scores"]).max()
