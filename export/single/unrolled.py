"""The method without a Loop, for TensorRT: a fixed chunk of masks per call, and one graph for the rest.

All shapes are fixed and all numbers are float32, as TensorRT knows no float64.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.arithmetic import LOWEST, arithmetic_of
from fusioncam.export.single.nodes import constants_of, put_into
from fusioncam.export.single.parts import chosen_class, give, is_half, masked, of_class
from fusioncam.kernels import rescoring
from fusioncam.manifest import Manifest

PREFIX = "fusioncam"  # of names
INTEGERS = dict.fromkeys(("class_index", "channels"), ir.DataType.INT64)


def chunk_graph(score: ir.Model, manifest: Manifest, masks: int) -> ir.Model:
    """Return the graph that scores N channels: `scores` (N,) = f_c(x * M_k).

    Inputs are `image`, `class_index`, the outputs `logits` and `activations` of the explain graph, and `channels` (N,)
    int64: the channels, in any order. Where fewer are left, repeat one.

    Args:
        score: The score graph of the bundle; it is used up.
        manifest: The manifest of the bundle.
        masks: N.
    """
    graph, op, inputs = _begun(manifest, ("image", "class_index", "logits", "activations"), {"channels": [masks]})
    maps = arithmetic_of(op, manifest, unrolled=True)
    small = op.Reshape(op.Gather(inputs["activations"], inputs["channels"], axis=1), op.ints([masks, 1, *maps.grid]))
    pictures = masked(op, inputs["image"], maps.up(maps.scaled(small)), is_half(score))
    rows = put_into(graph, score, f"{PREFIX}.masked", {"image": pictures})["logits"]
    scores = of_class(op, rows, chosen_class(op, inputs["logits"], inputs["class_index"]))
    give(graph, {"scores": op.Identity(scores)}, [masks])
    return _model(graph, score)


def fuse_graph(score: ir.Model, manifest: Manifest) -> ir.Model:
    """Return the graph that makes `fusion_cam`, `grad_cam` and `score_cam` (1, H, W) of the scores.

    Inputs are `image`, `class_index`, the outputs `logits`, `activations` and `gradients` of the explain graph, and
    `scores` (K,) of all channels; the score of a channel of zeros has no effect. The graph holds four passes: x * 0,
    x * D and x * R at once, then x * U.

    Args:
        score: The graph of the four passes: the score graph of the bundle, or its explain graph's part that gives the
            logits where scores are int8; it is used up.
        manifest: The manifest of the bundle.
    """
    channels, *grid = manifest.layer.shape
    names = ("image", "class_index", "logits", "activations", "gradients")
    graph, op, inputs = _begun(manifest, names, {"scores": [channels]})
    maps = arithmetic_of(op, manifest, unrolled=True)
    features, slopes = (op.Reshape(inputs[n], op.ints([channels, *grid])) for n in names[3:])
    chosen, half = chosen_class(op, inputs["logits"], inputs["class_index"]), is_half(score)
    again = score.clone()

    def passed(model: ir.Model, prefix: str, masks: ir.Value) -> ir.Value:
        """Return f(x * m) of masks m (n, 1, H, W): logits (n, classes)."""
        pictures = masked(op, inputs["image"], masks, half)
        return put_into(graph, model, prefix, {"image": pictures}, constants_of(graph))["logits"]

    def confidences(model: ir.Model, prefix: str, several: Sequence[ir.Value]) -> list[ir.Value]:
        """Return p_c(x * m) of several maps m, each (1,)."""
        stacked = op.Concat(*(op.Reshape(m, op.ints([1, 1, *maps.size])) for m in several), axis=0)
        column = of_class(op, maps.chances(passed(model, prefix, stacked), manifest.ending), chosen)
        return [op.Gather(column, op.ints([i])) for i in range(len(several))]

    gradient_map = maps.grad_cam(features, slopes)
    denoised = maps.denoise(gradient_map)
    silent = op.LessOrEqual(op.ReduceMax(op.Abs(features), op.ints([1, 2]), keepdims=0), maps.number(0))
    scores = op.Where(silent, maps.number(LOWEST), inputs["scores"])
    if manifest.score_precision == "int8":
        # Half of all channels at most, not of the live ones, whose number is not fixed; a silent one adds no weight.
        heavy = maps.heaviest(scores, op.ints([min(rescoring.MOST, -(-channels // 2))]))
        small = op.Unsqueeze(maps.scaled(op.Gather(features, heavy)), op.ints([1]))
        rows = passed(score.clone(), f"{PREFIX}.again", maps.up(small))
        exact = op.Where(op.Gather(silent, heavy), maps.number(LOWEST), of_class(op, rows, chosen))
        scores = maps.corrected(scores, heavy, exact)
    region = maps.score_cam(features, scores)
    nothing = op.constant(np.zeros(maps.size, np.float32))
    blank, of_denoised, of_region = confidences(score, f"{PREFIX}.masked", [nothing, denoised, region])
    shares = maps.shares(op.Sub(of_denoised, blank), op.Sub(of_region, blank))
    united = maps.unite(denoised, region, shares)
    (of_united,) = confidences(again, f"{PREFIX}.united", [united])
    fused = maps.blend(united, region, maps.shares(op.Sub(of_united, blank), shares[1]))
    outputs = {"fusion_cam": fused, "grad_cam": gradient_map, "score_cam": region}
    give(graph, {n: op.Unsqueeze(m, op.ints([0])) for n, m in outputs.items()}, [1, *maps.size])
    return _model(graph, score)


def _begun(
    manifest: Manifest, names: Sequence[str], more: dict[str, list[int]]
) -> tuple[ir.Graph, Ops, dict[str, ir.Value]]:
    """Return a graph, what appends to it, and its inputs by name."""
    layer = [1, *manifest.layer.shape]
    shapes = {
        "image": [1, 3, *manifest.preprocessing.size], "class_index": [1], "logits": [1, manifest.classes],
        "activations": layer, "gradients": layer,
    }  # fmt: skip
    shapes = {n: shapes[n] for n in names} | more
    inputs = {
        n: ir.Value(name=n, type=ir.TensorType(INTEGERS.get(n, ir.DataType.FLOAT)), shape=ir.Shape(s))
        for n, s in shapes.items()
    }
    graph = ir.Graph(list(inputs.values()), [], nodes=[], name="fusioncam")
    return graph, Ops(graph, PREFIX), inputs


def _model(graph: ir.Graph, score: ir.Model) -> ir.Model:
    graph.opset_imports.update(score.opset_imports)
    return ir.Model(graph, ir_version=score.ir_version)
