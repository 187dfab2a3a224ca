"""A bundle of any size: the sizes that it takes, and the bundles of other sizes that are derived from it."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn

from fusioncam.errors import UsageError
from fusioncam.export import export_model, export_torch, free_size, inspect_model
from fusioncam.export.derivation import derive_bundle
from fusioncam.export.randomise import randomised_bundle
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH, SOURCE_GRAPH, WEIGHTS, read_bundle

OWN, OTHER = (24, 32), (40, 28)
OPTIONS = {
    "plain": {"preprocessing": "unit", "single": True},
    "resized": {"layer": "layer", "labels": list("abcde"), "preprocessing": {"mean": (0.1, 0.2, 0.3)}},
    "pooled": {"ending": "sigmoid", "precision": "fp16"},
    "strided": {"gradient": False},
    "maps": {"task": "segment"},
}


def content(path):
    """The graph in a file, without the field that onnx sets in tensors that it read from another file."""
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        if tensor.data_location == TensorProto.DEFAULT:
            tensor.ClearField("data_location")
    return model.SerializeToString()


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_derived_bundle_is_that_of_an_export_by_size(free_nets, tmp_path, kind):
    source = free_nets.write(tmp_path / "net.onnx", kind)
    manifest = export_model(source, tmp_path / "any.fcam", size=("any", *OWN), **OPTIONS[kind])
    assert manifest.preprocessing.size == OWN
    assert read_bundle(tmp_path / "any.fcam") == manifest
    other = (40, 40) if kind == "strided" else OTHER
    made = derive_bundle(tmp_path / "any.fcam", manifest, other, tmp_path / "derived.fcam")
    expected = export_model(source, tmp_path / "sized.fcam", size=other, **{**OPTIONS[kind], "single": False})
    for name in (EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH):
        assert content(tmp_path / "derived.fcam" / name) == content(tmp_path / "sized.fcam" / name), name
    assert made.model_dump(exclude={"files", "drift"}) == expected.model_dump(exclude={"files", "drift"})
    assert read_bundle(tmp_path / "derived.fcam") == made
    # The weights are those of the first bundle, byte for byte.
    assert made.files[WEIGHTS] == manifest.files[WEIGHTS]


def test_the_graphs_of_the_own_size_do_not_change(free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx")
    free = export_model(source, tmp_path / "any.fcam", size=("any", *OWN))
    alone = export_model(source, tmp_path / "one.fcam", size=OWN)
    assert {n: d for n, d in free.files.items() if n not in (WEIGHTS, SOURCE_GRAPH)} == {
        n: d for n, d in alone.files.items() if n != WEIGHTS
    }
    # The source shares the weights of the graphs.
    assert (tmp_path / "any.fcam" / SOURCE_GRAPH).stat().st_size < 3000


@pytest.mark.parametrize(
    ("kind", "size", "step", "least"),
    [
        ("plain", ("H", "W"), (1, 1), (1, 1)),
        ("resized", ("H", "W"), (1, 1), (1, 1)),
        ("strided", ("H", "W"), (8, 8), (8, 8)),
        ("valid", ("H", "W"), (1, 1), (17, 17)),
        ("plain", (24, "W"), (0, 1), (24, 1)),
    ],
)
def test_the_sizes_that_a_model_takes_are_found(free_nets, tmp_path, kind, size, step, least):
    source = free_nets.write(tmp_path / "net.onnx", kind, size)
    free = export_model(source, tmp_path / "any.fcam", size=("any", *OWN)).free_size
    assert free.least == least
    assert free.step == step


def test_a_size_that_leaves_nothing_is_never_run(free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx", "valid")  # onnxruntime may divide by zero there, which ends Python
    manifest = export_model(source, tmp_path / "any.fcam", size=("any", *OWN))
    fails = free_size._trial(tmp_path / "any.fcam", manifest)
    assert fails((12, 32)) == "at 12 x 32 nothing is left of tensor 'm2'"
    assert fails((17, 17)) is None


def test_any_needs_a_model_that_takes_several_sizes(free_nets, tmp_path):
    for kind, size, words in (
        ("fixed", ("H", "W"), r"24 x 32 \(H x W\) only, so `any` has no effect: .*; say --size H W"),
        ("plain", OWN, r"24 x 32 \(H x W\) only, so `any` has no effect"),
    ):
        source = free_nets.write(tmp_path / "net.onnx", kind, size)
        with pytest.raises(UsageError, match=words):
            export_model(source, tmp_path / "any.fcam", size=("any", *OWN))
        assert not (tmp_path / "any.fcam").exists()


def test_any_alone_means_a_usual_size(free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx")
    assert export_model(source, tmp_path / "any.fcam", size="any").preprocessing.size == (224, 224)
    assert inspect_model(source, size="any").classifier.taken.open
    for size in (("any", 5), ("any", "a", "b"), "many"):
        with pytest.raises(UsageError, match="size is two positive whole numbers"):
            export_model(source, tmp_path / "any.fcam", size=size)


def test_a_torch_module_is_of_any_size(tmp_path):
    layers = nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    made = export_torch(nn.Sequential(*layers), torch.zeros(1, 3, *OWN), tmp_path / "any.fcam", size="any")
    assert (made.preprocessing.size, made.free_size.step) == (OWN, (1, 1))
    fixed = nn.Sequential(layers[0], layers[1], nn.Flatten(), nn.Linear(6 * 11 * 15, 4))
    with pytest.raises(UsageError, match=r"24 x 32 \(H x W\) only, so `any` has no effect: onnxruntime cannot run"):
        export_torch(fixed, torch.zeros(1, 3, *OWN), tmp_path / "fixed.fcam", size="any")


def test_int8_is_refused(free_nets, tmp_path):
    def photos(preprocessing):
        yield np.random.default_rng(0).random((3, *preprocessing.size), np.float32)

    source = free_nets.write(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="int8 scores are calibrated at one size"):
        export_model(source, tmp_path / "any.fcam", size=("any", *OWN), precision="int8", calibrate=photos)


def test_a_size_without_a_map_is_refused(free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx")
    manifest = export_model(source, tmp_path / "any.fcam", size=("any", *OWN))
    with pytest.raises(UsageError, match=r"at a size of 3 x 4: .*layer 'layer'.*; try one nearer to .* 24 x 32$"):
        derive_bundle(tmp_path / "any.fcam", manifest, (3, 4), tmp_path / "small.fcam")
    alone = export_model(source, tmp_path / "one.fcam", size=OWN)
    with pytest.raises(UsageError, match=r"is of one size, 24 x 32; export it with --size any"):
        derive_bundle(tmp_path / "one.fcam", alone, OTHER, tmp_path / "other.fcam")


def test_shuffled_weights_are_shuffled_at_every_size(free_nets, tmp_path):
    source = free_nets.write(tmp_path / "net.onnx")
    export_model(source, tmp_path / "any.fcam", size=("any", *OWN))
    shuffled = randomised_bundle(tmp_path / "any.fcam", tmp_path / "shuffled.fcam")
    derive_bundle(tmp_path / "shuffled.fcam", shuffled, OTHER, tmp_path / "derived.fcam")
    x = np.random.default_rng(1).random((1, 3, *OTHER), np.float32)
    export_model(source, tmp_path / "sized.fcam", size=OTHER)
    randomised_bundle(tmp_path / "sized.fcam", tmp_path / "expected.fcam")
    logits = [
        onnxruntime.InferenceSession(tmp_path / name / SCORE_GRAPH).run(None, {"image": x})[0]
        for name in ("derived.fcam", "expected.fcam", "sized.fcam")
    ]
    assert np.array_equal(logits[0], logits[1])
    assert not np.allclose(logits[0], logits[2])
