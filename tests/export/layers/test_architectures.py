"""Whole networks: the layer that is picked, and the gradient against torch's autograd in float64."""

import numpy as np
import pytest
import torch

from fusioncam.export import check, export_torch

BATCHES = [(-1,), (3,), (-1, 4, 0)]


def distance(actual, expected):
    assert actual.shape == expected.shape
    return np.linalg.norm(actual.astype(np.float64) - expected) / (np.linalg.norm(expected) or 1.0)


def test_default_layer(architecture, export_of):
    exported = export_of(architecture)
    assert exported.manifest.layer.shape == exported.network.shape
    assert exported.manifest.classes == 10
    assert exported.manifest.ending == "logits"


def test_gradient_at_the_last_layer(architecture, export_of, torch_gradient, to_map, run):
    compare(export_of(architecture), "last", torch_gradient, to_map, run)


def test_gradient_at_a_middle_layer(few, middle_of, torch_gradient, to_map, run):
    compare(middle_of(few), "middle", torch_gradient, to_map, run)


def compare(exported, where, torch_gradient, to_map, run):
    network, grid = exported.network, exported.manifest.layer.shape[1:]
    module, hook = getattr(network, where), network.roles if where == "last" else network.middle_roles
    for classes in BATCHES:
        images = np.random.default_rng(len(classes)).random((len(classes), 3, *network.size), np.float32)
        feeds = {"image": images, "class_index": np.array(classes, np.int64)}
        given = run(exported.bundle / "explain.onnx", feeds)
        exact, single = (
            [t if t.ndim == 2 else to_map(t, hook, network.offset, grid) for t in found]
            for found in (
                torch_gradient(exported.module, module, images, classes, dtype)
                for dtype in (torch.float64, torch.float32)
            )
        )
        assert np.linalg.norm(exact[2]) > 1e-6
        assert (np.abs(exact[2]).sum(axis=(0, 1)) > 0).mean() > 0.5, "most places have a say"
        for name, wanted, torchs in zip(("logits", "activations", "gradients"), exact, single, strict=True):
            assert given[name].dtype == np.float32
            error = distance(given[name], wanted)
            assert error <= max(1e-5, 3 * distance(torchs, wanted)), name
        scored = run(exported.bundle / "score.onnx", {"image": images})["logits"]
        assert distance(scored, given["logits"]) < 1e-5


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit"])
def test_half_precision(name, networks, tmp_path, torch_gradient, to_map, run):
    network = networks[name]
    example = torch.zeros(1, 3, *network.size).half()
    manifest = export_torch(network.make().half(), example, tmp_path / "h.fcam")
    assert (manifest.precision, manifest.layer.shape) == ("float16", network.shape)
    assert [f for f in check(tmp_path / "h.fcam") if not f.ok] == []
    images = np.random.default_rng(0).random((2, 3, *network.size), np.float32)
    given = run(tmp_path / "h.fcam" / "explain.onnx", {"image": images, "class_index": np.array([1, 2], np.int64)})
    exact = torch_gradient(network.make(), network.last, images, (1, 2), torch.float64)
    exact[1:] = [to_map(t, network.roles, network.offset, network.shape[1:]) for t in exact[1:]]
    for name, wanted in zip(("logits", "activations", "gradients"), exact, strict=True):
        assert given[name].dtype == np.float32
        assert distance(given[name], wanted) < 3e-2, name
