"""The graph that masks the layer, against torch with the layer's output masked by a hook, one mask at a time."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export import check, export_model, export_torch
from fusioncam.export.precision.drift import LOGIT_TOLERANCE
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH


def masks_for(grid, seed=0):
    """Ones, one place, all but one place, and shades, in this order: (5, 1, h, w)."""
    rng = np.random.default_rng(seed)
    masks = np.ones((5, 1, *grid), np.float32)
    masks[1], masks[1, 0, -1, 0] = 0, 1
    masks[2, 0, 0, -1] = 0
    masks[3] = rng.random((1, *grid)) < 0.5
    masks[4] = rng.random((1, *grid))
    return masks


def as_tensor(mask, roles, offset, tokens):
    """A mask (h, w) in the axes of the module's output; one for tokens that are not of the grid."""
    mask = torch.from_numpy(mask)
    if "T" not in roles:
        return mask[None, None] if roles == "NCHW" else mask[None, :, :, None]
    row = torch.ones(tokens)
    row[offset : offset + mask.numel()] = mask.flatten()
    return row[None, :, None]


def masked_by_hook(module, where, image, mask, roles, offset):
    """Logits of one picture, the output of one module (or the input: `NAME:input`) times a mask."""
    name, _, side = where.partition(":")

    def masked(tensor):
        return tensor * as_tensor(mask, roles, offset, tensor.shape[1]).to(tensor)

    if side:
        handle = module.get_submodule(name).register_forward_pre_hook(lambda _, given: (masked(given[0]), *given[1:]))
    else:
        handle = module.get_submodule(name).register_forward_hook(lambda _, __, output: masked(output))
    with torch.no_grad():
        logits = module(image)
    handle.remove()
    return logits[0].double().numpy()


def test_architecture_by_its_last_layer(architecture, export_of, run):
    compare(export_of(architecture), "last", run)


def test_architecture_by_a_middle_layer(few, middle_of, run):
    compare(middle_of(few), "middle", run)


def compare(exported, where, run):
    assert exported.manifest.has_head
    network, name = exported.network, getattr(exported.network, where)
    roles = network.roles if where == "last" else network.middle_roles
    image = np.random.default_rng(5).random((1, 3, *network.size), np.float32)
    masks = masks_for(exported.manifest.layer.shape[1:])
    given = run(exported.bundle / HEAD_GRAPH, {"image": image, "masks": masks})["logits"]
    module, x = exported.module.double(), torch.from_numpy(image).double()
    wanted = np.stack([masked_by_hook(module, name, x, m, roles, network.offset) for (m,) in masks.astype(np.float64)])
    assert given.dtype == np.float32
    assert np.abs(given - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert np.abs(wanted - wanted[:1]).max(axis=1)[1:].min() > 1e-4 * np.abs(wanted).max(), "every mask matters"


@pytest.mark.parametrize("name", ["mobilenet_v2", "vit"])
def test_half_precision(name, networks, tmp_path, run):
    network = networks[name]
    export_torch(network.make().half(), torch.zeros(1, 3, *network.size).half(), tmp_path / "h.fcam")
    image = np.random.default_rng(5).random((1, 3, *network.size), np.float32)
    masks = masks_for(network.shape[1:])
    given = run(tmp_path / "h.fcam" / HEAD_GRAPH, {"image": image, "masks": masks})["logits"]
    module, x = network.make(), torch.from_numpy(image)
    wanted = np.stack([masked_by_hook(module, network.last, x, m, network.roles, network.offset) for (m,) in masks])
    assert given.dtype == np.float32
    assert np.abs(given - wanted).max() <= LOGIT_TOLERANCE["float16"] * np.abs(wanted).max()


def test_scores_of_another_precision_leave_the_head_alone(tiny, tmp_path):
    source = tiny(size=(24, 32))
    export_model(source, tmp_path / "full.fcam")
    export_model(source, tmp_path / "half.fcam", precision="fp16")
    full, half = ((tmp_path / name / HEAD_GRAPH).read_bytes() for name in ("full.fcam", "half.fcam"))
    assert full == half


def cut_out(bundle, layer, run):
    """A function from the layer's tensor (M, ...) to logits: the score graph, with the layer for an input."""
    model = onnx.load(bundle / SCORE_GRAPH)
    kept = next(n for n in model.graph.node if layer in n.output)
    kept.output[list(kept.output).index(layer)] = "cut"
    model.graph.input.append(helper.make_tensor_value_info(layer, TensorProto.FLOAT, None))
    onnx.save(model, bundle.with_suffix(".cut.onnx"))
    return lambda image, tensor: run(
        bundle.with_suffix(".cut.onnx"), {"image": image.repeat(len(tensor), axis=0), layer: tensor}
    )["logits"]


def bypassing(*join, shapes=()):
    """conv1 -> relu 'early' -> conv2 -> 'late', joined with 'early', pool, Gemm: past `late` there is a second way."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["early"]),
        helper.make_node("Conv", ["early", "w2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["late"]),
        *join,
        helper.make_node("GlobalAveragePool", ["joined"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3"], ["scores"]),
    ]
    weights = {"w1": rng.normal(0, 0.5, (4, 3, 3, 3)), "w2": rng.normal(0, 0.5, (4, 4, 3, 3))}
    weights["w3"] = rng.normal(0, 1, (8 if join[-1].op_type == "Concat" else 4, 5))
    tensors = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(
        nodes,
        "bypassing",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 6, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [*tensors, *(numpy_helper.from_array(v, k) for k, v in shapes)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


JOINS = {
    "added": [helper.make_node("Add", ["late", "early"], ["joined"])],
    "joined": [helper.make_node("Concat", ["late", "early"], ["joined"], axis=1)],
    # The other way folds batch and rows into one axis, as windows do.
    "folded": [
        helper.make_node("Reshape", ["early", "rows"], ["e"]),
        helper.make_node("Reshape", ["late", "rows"], ["l"]),
        helper.make_node("Concat", ["l", "e"], ["both"], axis=1),
        helper.make_node("ReduceMax", ["both"], ["most"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["l", "most"], ["product"]),
        helper.make_node("Reshape", ["product", "whole"], ["joined"]),
    ],
}
SHAPES = [("rows", np.array([-1, 6, 4])), ("whole", np.array([-1, 4, 6, 4]))]


@pytest.mark.parametrize("join", JOINS)
def test_what_passes_by(join, tmp_path, run):
    onnx.save(bypassing(*JOINS[join], shapes=SHAPES if join == "folded" else ()), tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", layer="late")
    assert manifest.has_head
    assert [f for f in check(tmp_path / "m.fcam") if not f.ok] == []
    image, masks = np.random.default_rng(1).random((1, 3, 6, 4), np.float32), masks_for((6, 4))
    feeds = {"image": image, "class_index": np.array([-1])}
    activations = run(tmp_path / "m.fcam" / EXPLAIN_GRAPH, feeds)["activations"]
    wanted = cut_out(tmp_path / "m.fcam", "late", run)(image, activations * masks)
    given = run(tmp_path / "m.fcam" / HEAD_GRAPH, {"image": image, "masks": masks})["logits"]
    assert np.allclose(given, wanted, rtol=1e-4, atol=1e-5)


def test_a_layer_that_takes_no_masks(tmp_path):
    # Pictures are put in reverse, twice, by the batch of the image: the head has one image, but many masks.
    join = [
        helper.make_node("Shape", ["image"], ["shape"], start=0, end=1),
        helper.make_node("Squeeze", ["shape"], ["count"]),
        helper.make_node("Sub", ["count", "one"], ["last"]),
        helper.make_node("Range", ["last", "back", "back"], ["numbers"]),
        helper.make_node("Gather", ["late", "numbers"], ["reversed"], axis=0),
        helper.make_node("Gather", ["reversed", "numbers"], ["joined"], axis=0),
    ]
    shapes = [("one", np.array(1)), ("back", np.array(-1))]
    onnx.save(bypassing(*join, shapes=shapes), tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", layer="late", gradient=False)
    assert not manifest.has_head
    assert not (tmp_path / "m.fcam" / HEAD_GRAPH).exists()
    assert [f for f in check(tmp_path / "m.fcam") if not f.ok] == []
