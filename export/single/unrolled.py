"""The method without a Loop: a fixed chunk of masks per call, and one graph for the rest. All shapes are fixed."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.arithmetic import arithmetic_of
from fusioncam.export.single.fusion import fused
from fusioncam.export.single.network import Network
from fusioncam.export.single.parts import chosen_class, give, of_class
from fusioncam.export.single.subject import subject_of
from fusioncam.manifest import Manifest

PREFIX, MODEL = "fusioncam", "fusioncam.masked"  # of names
INTEGERS = dict.fromkeys(("class_index", "channels"), ir.DataType.INT64)


def chunk_graph(score: ir.Model, manifest: Manifest, masks: int) -> ir.Model:
    """Return the graph that scores N channels: `scores` (N,) = f_c(x * M_k).

    Inputs are `image`, `class_index`, the outputs `logits` and `activations` of the explain graph, and `channels` (N,)
    int64: the channels, in any order. Where fewer are left, repeat one.

    Args:
        score: The score graph of the bundle.
        manifest: The manifest of the bundle.
        masks: N.
    """
    graph, op, inputs = _begun(manifest, ("image", "class_index", "logits", "activations"), {"channels": [masks]})
    maps = arithmetic_of(op, manifest)
    small = op.Reshape(op.Gather(inputs["activations"], inputs["channels"], axis=1), op.ints([masks, 1, *maps.grid]))
    rows = Network(score, graph, MODEL).logits(op, inputs["image"], maps.up(maps.scaled(small)))
    scores = of_class(op, rows, chosen_class(op, inputs["logits"], inputs["class_index"]))
    give(graph, {"scores": op.Identity(scores)}, [masks])
    return _model(graph, score)


def fuse_graph(network: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph that makes `fusion_cam`, `grad_cam` and `score_cam` (1, H, W) of the scores; see `fused`.

    Inputs are `image`, `class_index`, the outputs `logits`, `activations` and `gradients` of the explain graph, and
    `scores` (K,) of all channels.

    Args:
        network: The graph of the passes of full-size maps: the score graph of the bundle, or the part of its explain
            graph that gives the logits where scores are int8.
        manifest: The manifest of the bundle.
    """
    names = ("image", "class_index", "logits", "activations", "gradients")
    graph, op, inputs = _begun(manifest, names, {"scores": [manifest.layer.shape[0]]})
    subject = subject_of(op, manifest, inputs)
    maps = fused(op, subject, inputs["scores"], Network(network, graph, MODEL))
    size = [1, *manifest.preprocessing.size]
    give(graph, {n: op.Unsqueeze(m, op.ints([0])) for n, m in maps.items()}, size)
    return _model(graph, network)


def _begun(
    manifest: Manifest, names: Sequence[str], more: dict[str, list[int]]
) -> tuple[ir.Graph, Ops, dict[str, ir.Value]]:
    """Return a graph, what appends to it, and its inputs by name."""
    layer = [1, *manifest.layer.shape]
    shapes = {
        "image": [1, *manifest.preprocessing.shape], "class_index": [1], "logits": [1, manifest.classes],
        "activations": layer, "gradients": layer,
    }  # fmt: skip
    shapes = {n: shapes[n] for n in names} | more
    inputs = {
        n: ir.Value(name=n, type=ir.TensorType(INTEGERS.get(n, ir.DataType.FLOAT)), shape=ir.Shape(s))
        for n, s in shapes.items()
    }
    graph = ir.Graph(list(inputs.values()), [], nodes=[], name="fusioncam")
    return graph, Ops(graph, PREFIX), inputs


def _model(graph: ir.Graph, network: ir.Model) -> ir.Model:
    graph.opset_imports.update(network.opset_imports)
    return ir.Model(graph, ir_version=network.ir_version)
