"""The layer that is taken by default where models are rewritten by tools, branch, or cannot be followed."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from fusioncam import Explainer
from fusioncam.errors import ModelError
from fusioncam.export import check, export_model, export_torch, inspect_model
from fusioncam.export.canonical import canonicalize
from fusioncam.export.layers.choice import survey

SIZE = (16, 16)


def failures(bundle):
    return [f.what for f in check(Path(bundle)) if not f.ok]


@pytest.mark.parametrize("rewrite", ["flattened_products", "quantised_pairs"])
@pytest.mark.parametrize("network", ["vit_registers", "vit_gap"])
def test_what_other_tools_make_of_a_transformer(network, rewrite, export_of, rewrites, tmp_path):
    exported = export_of(network)
    onnx.save(getattr(rewrites, rewrite)(onnx.load(exported.source)), tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert manifest.layer.name.removesuffix("/float") == exported.manifest.layer.name
    assert (manifest.layer.shape, manifest.layer.offset) == (exported.manifest.layer.shape, exported.network.offset)
    assert failures(tmp_path / "m.fcam") == []


class Backbone(nn.Sequential):
    def __init__(self, width, depth=2):
        layers = [nn.Conv2d(3, width, 3, 2, 1), nn.ReLU()]
        for _ in range(depth - 1):
            layers += [nn.Conv2d(width, width, 3, 1, 1), nn.ReLU()]
        super().__init__(*layers)


class Ensemble(nn.Module):
    """Backbones side by side; `join` says where they meet."""

    def __init__(self, widths, join="logits", shared=False):
        super().__init__()
        self.join, self.stem = join, nn.Conv2d(3, 3, 3, 1, 1) if shared else nn.Identity()
        self.parts = nn.ModuleList(Backbone(w) for w in widths)
        self.heads = nn.ModuleList(nn.Linear(w, 5) for w in widths)
        self.head = nn.Linear(sum(widths), 5)

    def forward(self, x):
        x = self.stem((x - 0.5) / 0.25)
        maps = [part(x) for part in self.parts]
        if self.join == "maps":
            return self.head(torch.cat(maps, dim=1).mean(dim=(2, 3)))
        means = [m.mean(dim=(2, 3)) for m in maps]
        if self.join == "features":
            return self.head(torch.cat(means, dim=1))
        return sum(head(m) for head, m in zip(self.heads, means, strict=True)) / len(means)


def exported(module, tmp_path, name="m"):
    torch.manual_seed(0)
    bundle = tmp_path / f"{name}.fcam"
    return bundle, export_torch(module.eval(), torch.zeros(1, 3, *SIZE), bundle)


@pytest.mark.parametrize("join", ["logits", "features"])
@pytest.mark.parametrize("widths", [(4, 6), (4, 6, 5)])
def test_branches_are_told_of(join, widths, tmp_path):
    bundle, manifest = exported(Ensemble(widths, join), tmp_path)
    layer = manifest.layer
    assert layer.bypassed
    assert len(layer.branches) == len(widths) - 1
    assert "past layer" in layer.remarks[0]
    source = bundle.with_suffix(".torch.onnx")
    assert inspect_model(source).remarks == layer.remarks
    x = np.random.default_rng(0).random((3, *SIZE), np.float32)
    assert "bypassed_layer" in Explainer(bundle).explain(x).flags
    bundles = [bundle]
    for i, name in enumerate(layer.branches):
        bundles.append(tmp_path / f"b{i}.fcam")
        other = export_model(source, bundles[-1], layer=name).layer
        assert other.shape[0] in widths
        assert other.shape[0] != layer.shape[0]
    assert "bypassed_layer" not in Explainer(bundles).explain(x).flags, "together they see everything"


def test_the_join_is_taken_where_it_has_height_and_width(tmp_path):
    bundle, manifest = exported(Ensemble((4, 6), "maps"), tmp_path)
    assert (manifest.layer.bypassed, manifest.layer.shape) == (False, (10, 8, 8))
    named = next(c.name for c in survey(canonicalize(bundle.with_suffix(".torch.onnx"))).candidates if c.bypassed)
    other = export_model(bundle.with_suffix(".torch.onnx"), tmp_path / "o.fcam", layer=named).layer
    assert (other.bypassed, other.join) == (True, manifest.layer.name)
    assert manifest.layer.name in other.remarks[0]


def test_an_early_stem_is_told_of(tmp_path):
    _, manifest = exported(Ensemble((4, 6), "logits", shared=True), tmp_path)
    assert (manifest.layer.early, manifest.layer.bypassed) == (True, False)
    assert len(manifest.layer.branches) == 2
    assert "first third" in manifest.layer.remarks[0]


class Picked(nn.Module):
    """A class token that is picked by a product: no structure shows that the others are left."""

    def __init__(self, block):
        super().__init__()
        self.stem, self.block, self.head = nn.Conv2d(3, 8, 4, 4), block, nn.Linear(8, 5)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.register_buffer("pick", torch.eye(17)[:1])

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = self.block(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1))
        return self.head((self.pick @ x)[:, 0])


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        return x + self.mix(self.norm(x).mean(dim=1, keepdim=True))


def test_a_layer_without_gradient_is_passed_over(tmp_path):
    bundle, manifest = exported(Picked(Mean()), tmp_path)
    assert failures(bundle) == []
    report = inspect_model(bundle.with_suffix(".torch.onnx"))
    dead = [c for c, _ in report.layers if c.refused and "its gradient is zero" in c.refused]
    assert dead, "the sum after the last mixing is seen to be dead"
    assert report.default.name == manifest.layer.name


def test_check_fails_on_a_layer_without_gradient(tmp_path):
    bundle, manifest = exported(Picked(Mean()), tmp_path)
    source = bundle.with_suffix(".torch.onnx")
    last = [c.name for c in survey(canonicalize(source)).candidates if c.refused is None][-1]
    assert last != manifest.layer.name
    export_model(source, bundle, layer=last)
    assert failures(bundle) == ["gradient of the layer is not zero for every picture and class"]


@pytest.mark.parametrize("gradient", [True, False])
def test_weights_of_zero(gradient, tiny, tmp_path):
    source = tiny()
    model = onnx.load(source)
    weights = next(t for t in model.graph.initializer if t.name == "w3")
    weights.CopyFrom(numpy_helper.from_array(np.zeros((6, 5), np.float32), "w3"))
    onnx.save(model, source)
    with pytest.raises(ModelError, match="the logits"):
        export_model(source, tmp_path / "m.fcam", gradient=gradient)
    assert not (tmp_path / "m.fcam").exists()


def test_the_axes_of_a_gathered_pool(export_of, tmp_path):
    exported = export_of("pooled")
    found = survey(canonicalize(exported.source)).candidates
    moved = next(c for c in found if not c.layout.roles.startswith("N"))
    manifest = export_model(exported.source, tmp_path / "m.fcam", layer=moved.name)
    assert manifest.layer.shape == (12, 4, 4)
    assert failures(tmp_path / "m.fcam") == [], "the batch need not be the first axis"


def insert(source, before, *nodes, tensors=(), domain=None):
    """Put nodes, the last of which gives 'odd', between the tensor `before` and what reads it."""
    model = onnx.load(source)
    at = next(i for i, n in enumerate(model.graph.node) if before in n.input)
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == before:
                node.input[i] = "odd"
    for i, node in enumerate(nodes):
        model.graph.node.insert(at + i, node)
    model.graph.initializer.extend(tensors)
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.save(model, source)
    return source


def test_operators_of_other_domains_are_named(tiny, tmp_path):
    sample = helper.make_node("SampleOp", ["r1"], ["odd"], "sample", domain="com.microsoft")
    source = insert(tiny(), "r1", sample, domain="com.microsoft")
    assert export_model(source, tmp_path / "m.fcam").layer.name == "relu"
    refused = {c.name: c.refused for c, _ in inspect_model(source).layers}
    assert "no gradient rule for com.microsoft.SampleOp (node 'sample')" in refused["r1"]
    manifest = export_model(source, tmp_path / "n.fcam", layer="r1", gradient=False)
    assert manifest.layer.shape == (4, 8, 6)
    assert failures(tmp_path / "n.fcam") == []


def test_where_height_and_width_are_lost(tiny, tmp_path):
    # A picture whose rows are picked by their brightness has no places any more, and no convolution follows.
    model = onnx.load(tiny())
    keep = [n for n in model.graph.node if n.op_type in ("Flatten", "Gemm")]
    nodes = [
        helper.make_node("ReduceMean", ["image", "axes"], ["brightness"], keepdims=0),
        helper.make_node("TopK", ["brightness", "two"], ["values", "rows"], "top", axis=1),
        helper.make_node("Unsqueeze", ["rows", "ends"], ["wide"]),
        helper.make_node("Expand", ["wide", "shape"], ["wider"]),
        helper.make_node("GatherElements", ["image", "wider"], ["picked"], "pick", axis=2),
        helper.make_node("MatMul", ["picked", "mix"], ["mixed"]),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pool"]),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *keep])
    weights = [t for t in model.graph.initializer if t.name in ("b3",)]
    del model.graph.initializer[:]
    rng = np.random.default_rng(0)
    whole = {"axes": [1, 3], "two": [2], "ends": [1, 3], "shape": [1, 3, 2, 6]}
    arrays = {name: np.array(values) for name, values in whole.items()}
    arrays |= {name: rng.normal(size=s).astype(np.float32) for name, s in {"mix": (6, 6), "w3": (3, 5)}.items()}
    model.graph.initializer.extend([*weights, *(numpy_helper.from_array(a, n) for n, a in arrays.items())])
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"lost at operator (GatherElements|TopK) \(node '(pick|top)'\)"):
        export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")


@pytest.mark.parametrize("kind", ["dynamic", "optimised", "both"])
@pytest.mark.parametrize("network", ["tiny", "vit_registers", "swin"])
def test_quantised_and_optimised_files(kind, network, export_of, tiny, rewrites, tmp_path):
    source = tiny() if network == "tiny" else export_of(network).source
    if kind != "optimised":
        source = rewrites.dynamic(source, tmp_path / "d.onnx")
    if kind != "dynamic":
        source = rewrites.optimised(source, tmp_path / "o.onnx")
    manifest = export_model(source, tmp_path / "m.fcam")
    wanted = (6, 4, 6) if network == "tiny" else export_of(network).network.shape
    assert manifest.layer.shape == wanted
    assert failures(tmp_path / "m.fcam") == []
    graph = ir.load(tmp_path / "m.fcam" / "score.onnx").graph
    assert not any(n.op_type.startswith("DynamicQuantize") for n in graph), (
        "one scale for a batch would mix its pictures"
    )
