"""The method without a Loop: a fixed chunk of masks per call, and one graph for the rest. All shapes are fixed."""

from collections.abc import Mapping

import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.fusion import fused
from fusioncam.export.single.levels import Explaining, largest, layer_tensors
from fusioncam.export.single.network import Network
from fusioncam.export.single.parts import give, kind_of
from fusioncam.export.single.readout import needed, readout_of
from fusioncam.export.single.subject import subject_of
from fusioncam.forms import Tensor
from fusioncam.manifest import Manifest

PREFIX, MODEL = "fusioncam", "fusioncam.masked"  # of names


def chunk_graph(score: ir.Model, manifest: Manifest, masks: int) -> ir.Model:
    """Return the graph that scores N channels: `scores` (N,) = s(x * M_k).

    Inputs are `image`, the target, the outputs `logits` and `activations` of the explain graph, and `channels` (N,)
    int64: the channels, in any order. Where fewer are left, repeat one. Of a detector of several levels, all their
    activations and gradients are inputs, and channels beyond those of the level that explains the target are zeros.

    Args:
        score: The score graph of the bundle.
        manifest: The manifest of the bundle.
        masks: N.
    """
    channels = Tensor("channels", "int64", ())
    graph, op, inputs = _begun(manifest, layer_tensors(manifest, gradients=False), channels, masks)
    layer = Explaining(op, manifest, inputs)
    maps = layer.arithmetic(op)
    small = op.Unsqueeze(op.Gather(layer.activations, inputs["channels"]), op.ints([1]))
    readout = readout_of(op, manifest, inputs)
    outputs = Network(score, graph, MODEL).run(op, inputs["image"], maps.up(maps.scaled(small)), readout.target)
    give(graph, {"scores": op.Identity(readout.scores(op, outputs))}, [masks])
    return _model(graph, score)


def fuse_graph(network: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph that makes `fusion_cam`, `grad_cam` and `score_cam` (1, H, W) of the scores; see `fused`.

    Inputs are `image`, the target, the outputs `logits`, `activations` and `gradients` of the explain graph, and
    `scores` (K,) of all channels.

    Args:
        network: The graph of the passes of full-size maps: the score graph of the bundle, or the part of its explain
            graph that scores where scores are int8.
        manifest: The manifest of the bundle.
    """
    layers, scores = layer_tensors(manifest, gradients=True), Tensor("scores", "float32", ())
    graph, op, inputs = _begun(manifest, layers, scores, largest(manifest)[0])
    subject = subject_of(op, manifest, inputs)
    maps = fused(op, subject, inputs["scores"], Network(network, graph, MODEL))
    size = [1, *manifest.preprocessing.size]
    give(graph, {n: op.Unsqueeze(m, op.ints([0])) for n, m in maps.items()}, size)
    return _model(graph, network)


def _begun(
    manifest: Manifest, layers: Mapping[str, tuple[int, ...]], more: Tensor, count: int
) -> tuple[ir.Graph, Ops, dict[str, ir.Value]]:
    """Return a graph, what appends to it, and its inputs by name: some for one picture, and one of `count` rows."""
    form, image = manifest.form, Tensor("image", "float32", manifest.preprocessing.shape)
    known = {t.name: t for t in (*form.targets, form.output)}
    of_layers = [Tensor(name, "float32", shape) for name, shape in layers.items()]
    of_picture = [image, *(known[name] for name in needed(manifest)), *of_layers]
    inputs = {
        t.name: ir.Value(name=t.name, type=ir.TensorType(kind_of(t)), shape=ir.Shape([rows, *t.shape]))
        for t, rows in (*((t, 1) for t in of_picture), (more, count))
    }
    graph = ir.Graph(list(inputs.values()), [], nodes=[], name="fusioncam")
    return graph, Ops(graph, PREFIX), inputs


def _model(graph: ir.Graph, network: ir.Model) -> ir.Model:
    graph.opset_imports.update(network.opset_imports)
    return ir.Model(graph, ir_version=network.ir_version)
