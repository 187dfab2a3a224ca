"""Segmenters and embedders as libraries build them: they are read, and gradients equal autograd's in float64."""

import numpy as np
import pytest
import torch
from torch import nn

from fusioncam.export import check, export_torch

SIZE = 32, 48
CLASSES = 5


def block(inputs, outputs, stride=1, dilation=1):
    conv = nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


def resized(x, like):
    return nn.functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Atrous(nn.Module):
    """A segmenter with dilated convolutions side by side and a pooled picture, as DeepLab v3 is."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(block(3, 8, 2), block(8, 12, 2))
        self.sides = nn.ModuleList([block(12, 6), block(12, 6, dilation=2)])
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU())
        self.project, self.head = block(18, 10), nn.Conv2d(10, CLASSES, 1)
        self.layer = self.project

    def forward(self, x):
        f = self.body(x)
        sides = [side(f) for side in self.sides] + [resized(self.pooled(f), f)]
        return resized(self.head(self.project(torch.cat(sides, 1))), x)


class Attending(nn.Module):
    """Attention over a grid of tokens, with keys of fewer places, and a decoder at stride 4, as SegFormer is."""

    def __init__(self):
        super().__init__()
        self.patches, self.shrink = nn.Conv2d(3, 16, 7, 4, 3), nn.Conv2d(16, 16, 2, 2)
        self.norms = nn.ModuleList([nn.LayerNorm(16) for _ in range(3)])
        self.q, self.kv, self.out = nn.Linear(16, 16), nn.Linear(16, 32), nn.Linear(16, 16)
        self.mix = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.fuse, self.head = block(16, 12), nn.Conv2d(12, CLASSES, 1)
        self.layer = self.fuse

    def forward(self, x):
        f = self.patches(x)
        n, c, h, w = f.shape
        tokens = f.flatten(2).transpose(1, 2)
        small = self.shrink(f).flatten(2).transpose(1, 2)
        q, (k, v) = self.q(self.norms[0](tokens)), self.kv(self.norms[1](small)).chunk(2, 2)
        weights = (q @ k.transpose(1, 2) / 4).softmax(2)
        tokens = tokens + self.out(weights @ v)
        tokens = tokens + self.mix(self.norms[2](tokens))
        return self.head(self.fuse(tokens.transpose(1, 2).reshape(n, c, h, w)))


class Skipping(nn.Module):
    """An encoder and a decoder with a skip connection, as U-Net is; one class, closed by a sigmoid."""

    def __init__(self):
        super().__init__()
        self.first, self.second = block(3, 6), nn.Sequential(nn.MaxPool2d(2), block(6, 10))
        self.up, self.last = nn.ConvTranspose2d(10, 6, 2, 2), block(12, 6)
        self.head, self.layer = nn.Conv2d(6, 1, 1), self.last

    def forward(self, x):
        first = self.first(x)
        return torch.sigmoid(self.head(self.last(torch.cat([first, self.up(self.second(first))], 1))))


class Looking(nn.Module):
    """An embedder with a class token, a projection and a closing normalisation, as CLIP's picture tower is."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 8, 8), nn.Parameter(torch.randn(1, 1, 16))
        self.place = nn.Parameter(0.1 * torch.randn(1, 25, 16))
        self.norm, self.after = nn.LayerNorm(16), nn.LayerNorm(16)
        self.qkv, self.out, self.project = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, 9, bias=False)
        self.layer = self.norm

    def forward(self, x):
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1) + self.place
        q, k, v = self.qkv(self.norm(tokens)).chunk(3, 2)
        tokens = tokens + self.out((q @ k.transpose(1, 2) / 4).softmax(2) @ v)
        return nn.functional.normalize(self.project(self.after(tokens[:, 0])), dim=1)


class Pooling(nn.Module):
    """An embedder of pooled features, as networks for faces are."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(block(3, 8, 2), block(8, 12, 2)), nn.Linear(12, 10)
        self.layer = self.body

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


SEGMENTERS = {Atrous: ("softmax", 4, (32, 48)), Attending: ("softmax", 4, (8, 12)), Skipping: ("sigmoid", 0, (32, 48))}
EMBEDDERS = {Looking: {}, Pooling: {"task": "embed"}}


def trained(kind, pictures):
    """A model whose normalisations know its pictures, so that numbers are neither tiny nor huge."""
    torch.manual_seed(0)
    module = kind()
    with torch.no_grad():
        for _ in range(20):
            module(torch.from_numpy(pictures))
    return module.eval()


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(size=(3, 3, *SIZE)).astype(np.float32)


def traced(module, pictures):
    """What the layer gives, and the output of the model, in float64."""
    seen = []
    handle = module.layer.register_forward_hook(lambda _, inputs, output: seen.append(output))
    output = module.double()(torch.from_numpy(pictures).double())
    handle.remove()
    return seen[0], output


def assert_like(found, exact):
    exact = exact.detach().numpy()
    assert np.abs(found.reshape(exact.shape) - exact).max() <= 1e-5 * np.abs(exact).max()


@pytest.mark.parametrize("kind", SEGMENTERS)
def test_a_segmenter(kind, pictures, run, tmp_path):
    ending, _, size = SEGMENTERS[kind]
    module = trained(kind, pictures)
    manifest = export_torch(module, torch.zeros(1, 3, *SIZE), tmp_path / "m.fcam")
    assert (manifest.task, manifest.map_size) == ("segment", size)
    assert manifest.ending in (ending, "logits")
    assert not manifest.layer.bypassed
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    for peak in (False, True):
        assert_scores_of_a_region(kind, peak, module, run, tmp_path, pictures)


def assert_scores_of_a_region(kind, peak, module, run, folder, pictures):
    """Scores of a class over a region, and their gradient, equal autograd's."""
    _, c, size = SEGMENTERS[kind]
    region = (np.random.default_rng(1).random((3, *size)) < 0.3).astype(np.float32)
    layer, output = traced(module, pictures)
    z = (output / (1 - output)).log() if kind is Skipping else output
    inside, weights = z[:, c], torch.from_numpy(region).double()
    if peak:
        scores = torch.where(weights > 0, inside, -torch.inf).amax((1, 2))
    else:
        scores = (inside * weights).sum((1, 2)) / weights.sum((1, 2))
    (gradient,) = torch.autograd.grad(scores.sum(), layer)
    c = 1 if kind is Skipping else c  # of both ways, the one that speaks for it
    targets = {"class_index": np.full(3, c), "region": region, "peak": np.full(3, peak)}
    found = run(folder / "m.fcam" / "explain.onnx", {"image": pictures, **targets})
    assert_like(found["scores"], scores)
    assert_like(found["activations"], layer)
    assert_like(found["gradients"], gradient)


@pytest.mark.parametrize("kind", EMBEDDERS)
def test_an_embedder(kind, pictures, run, tmp_path):
    module = trained(kind, pictures)
    manifest = export_torch(module, torch.zeros(1, 3, *SIZE), tmp_path / "m.fcam", **EMBEDDERS[kind])
    assert manifest.task == "embed"
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    references = np.random.default_rng(1).normal(size=(3, manifest.classes)).astype(np.float32)
    layer, output = traced(module, pictures)
    scores = torch.nn.functional.cosine_similarity(output, torch.from_numpy(references).double())
    (gradient,) = torch.autograd.grad(scores.sum(), layer)
    if kind is Looking:
        gradient = gradient[:, 1:].transpose(1, 2)  # without the class token
    found = run(tmp_path / "m.fcam" / "explain.onnx", {"image": pictures, "reference": references})
    assert_like(found["scores"], scores)
    assert_like(found["gradients"], gradient)
