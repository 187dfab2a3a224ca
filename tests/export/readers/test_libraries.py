"""Segmenters and embedders of torchvision and transformers: their readers, and gradients of targets by autograd."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fusioncam import Explainer, Like, Region
from fusioncam.export import check, export_model
from fusioncam.export.reading.from_torch import save_onnx

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

# Options of the export, and what it makes of the output: task, reader, and (h', w') of maps.
TABLE = {
    "torchvision/deeplabv3_mobilenet_v3_large": ({}, ("segment", "maps", (64, 64))),
    "torchvision/lraspp_mobilenet_v3_large": ({}, ("segment", "maps", (64, 64))),
    "transformers/SegformerSemantic": ({}, ("segment", "maps", (16, 16))),
    "transformers/CLIPVision": ({"task": "embed"}, ("embed", "vector", None)),
    "transformers/Dinov2Pooler": ({"task": "embed"}, ("embed", "vector", None)),
    "transformers/Dinov2Tokens": ({"task": "embed", "reader": "cls-token"}, ("embed", "cls-token", None)),
}


@pytest.fixture(scope="module")
def zoo():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return importlib.import_module("zoo")


@pytest.fixture(scope="module", params=list(TABLE))
def exported(request, zoo, tmp_path_factory):
    """A network of a library, with its bundle."""
    library = request.param.partition("/")[0]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    entry, folder = zoo.TARGET_ENTRIES[request.param], tmp_path_factory.mktemp("library")
    module, source = zoo.build(entry), folder / "m.onnx"
    save_onnx(module, zoo.example(entry), source)
    manifest = export_model(source, folder / "m.fcam", preprocessing="unit", **TABLE[request.param][0])
    return request.param, module, folder / "m.fcam", manifest


class Affine(nn.Module):
    """A batch norm in evaluation mode, by its formula: torch's own is wrong for gradients that are transposed views."""

    def __init__(self, norm):
        super().__init__()
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.register_buffer("scale", scale.detach()[:, None, None])
        self.register_buffer("shift", (norm.bias - norm.running_mean * scale).detach()[:, None, None])

    def forward(self, x):
        return x * self.scale + self.shift


def without_norms(module):
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, Affine(child))
        else:
            without_norms(child)
    return module


def tensors_of(module, images):
    """The output, and all tensors that a submodule gives or takes."""
    seen = []

    def keep(_, given, made):
        seen.extend(t for t in (made, *given) if isinstance(t, torch.Tensor) and t.grad_fn is not None)

    handles = [part.register_forward_hook(keep) for part in module.modules()]
    output = module(images)
    for handle in handles:
        handle.remove()
    return output, seen


def score(task, reader, y, targets):
    """The score of the first picture's target, from the network's own output."""
    if task == "embed":
        vector = y[:, 0] if reader == "cls-token" else y
        return functional.cosine_similarity(vector[0], torch.from_numpy(targets["reference"][0]).to(y.dtype), dim=0)
    of_class, region = y[0, targets["class_index"][0]], torch.from_numpy(targets["region"][0]).to(y.dtype)
    if targets["peak"][0]:
        return of_class[region > 0].max()
    return (of_class * region).sum() / region.sum()


def targets_of(manifest):
    """Feeds of one target of each kind."""
    rng = np.random.default_rng(1)
    if manifest.task == "embed":
        return [{"reference": rng.normal(size=(1, manifest.classes)).astype(np.float32)}]
    region = rng.random((1, *manifest.map_size)).astype(np.float32) * (rng.random((1, *manifest.map_size)) > 0.5)
    given = {"class_index": np.array([2]), "region": region.astype(np.float32)}
    return [{**given, "peak": np.array([peak])} for peak in (False, True)]


class Scored:
    """What the oracle of maps asks of a model: the score and the confidence of a target, in float64."""

    def __init__(self, exported, feeds):
        _, self.module, _, self.manifest = exported
        self.feeds, self.module = feeds, without_norms(self.module.double())

    def read(self, x):
        with torch.no_grad():
            y = self.module(torch.from_numpy(x[None]).double())
        s = float(score(self.manifest.task, self.manifest.reader, y, self.feeds))
        chances = y.softmax(dim=1) if self.manifest.task == "segment" else y
        return s, float(score(self.manifest.task, self.manifest.reader, chances, self.feeds))


def distance(actual, expected):
    assert actual.shape == expected.shape
    return np.linalg.norm(actual.astype(np.float64) - expected) / (np.linalg.norm(expected) or 1.0)


def test_a_reader_is_chosen(exported):
    name, _, bundle, manifest = exported
    assert (manifest.task, manifest.reader, manifest.map_size) == TABLE[name][1]
    assert [f for f in check(bundle) if not f.ok] == []


def test_gradient_of_targets(exported, run, to_map):
    _, module, bundle, manifest = exported
    layer = manifest.layer
    images = np.random.default_rng(0).random((1, 3, *manifest.preprocessing.size), np.float32)
    for feeds in targets_of(manifest):
        given = run(bundle / "explain.onnx", {"image": images, **feeds})
        errors = {}
        for dtype in (torch.float64, torch.float32):
            y, seen = tensors_of(without_norms(module.to(dtype)), torch.from_numpy(images).to(dtype).requires_grad_())
            value = score(manifest.task, manifest.reader, y, feeds)
            gradients = torch.autograd.grad(value, seen, retain_graph=True, allow_unused=True)
            errors[dtype] = min(
                distance(given["gradients"], to_map(g.detach().numpy(), layer.roles, layer.offset, layer.shape[1:]))
                for a, g in zip(seen, gradients, strict=True)
                if g is not None and holds(a, given["activations"], layer, to_map)
            )
        if errors[torch.float64] > 1e-5:
            raise AssertionError(errors)
        np.testing.assert_allclose(given["scores"], [value.detach().numpy()], rtol=1e-4, atol=1e-5)


def holds(tensor, activations, layer, to_map):
    """Whether a tensor is the layer of the bundle."""
    array = tensor.detach().numpy()
    if array.ndim != len(layer.roles) or array.size < activations.size:
        return False
    try:
        found = to_map(array, layer.roles, layer.offset, layer.shape[1:])
    except ValueError:
        return False
    return found.shape == activations.shape and np.allclose(found, activations, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("exported", ["transformers/SegformerSemantic", "transformers/CLIPVision"], indirect=True)
def test_maps_of_targets(exported, oracle, run):
    _, _, bundle, manifest = exported
    x = np.random.default_rng(0).normal(size=(3, *manifest.preprocessing.size)).astype(np.float32)
    feeds = targets_of(manifest)[0]
    scored = Scored(exported, feeds)

    class Target(oracle):
        def __init__(self):
            pass

        def logits(self, x):
            return np.array([scored.read(x)[0]])

        def confidence(self, x, c):
            return scored.read(x)[1]

    if manifest.task == "embed":
        target = Like(feeds["reference"][0])
    else:
        mask = np.kron(feeds["region"][0] > 0, np.ones((4, 4)))
        feeds["region"] = (feeds["region"] > 0).astype(np.float32)
        target = Region(2, mask=mask)
    given = run(bundle / "explain.onnx", {"image": x[None], **feeds})
    wanted = Target().maps(x, 0, given["activations"][0].astype(np.float64), given["gradients"][0].astype(np.float64))
    found = Explainer(bundle, methods=tuple(wanted)).explain(x, target=target)
    assert (found.score, found.probability) == pytest.approx(scored.read(x), abs=1e-4)
    assert wanted["grad_cam"].any()
    for method, saliency in wanted.items():
        np.testing.assert_allclose(found.maps[method], saliency, rtol=0, atol=1e-4, err_msg=method)
