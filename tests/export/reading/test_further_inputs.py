"""Models of several inputs: one is the picture, others stay open for each picture or are frozen into the graph."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from fusioncam.errors import UsageError
from fusioncam.export import check, export_model
from fusioncam.export.bundle import read_frozen
from fusioncam.export.randomise import randomised_bundle
from fusioncam.manifest import read_bundle

NAMES = ("metadata", "siamese", "depth", "two_towers")
WORDS = {
    "metadata": ["'numbers' float32 (4)", "'kind' int64 ()"],
    "siamese": ["'other' float32 (3, 24, 32)"],
    "depth": ["'depth' float32 (1, 24, 32)"],
    "two_towers": [],
}


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_stay_open(several, name):
    made = several(name)
    assert [each.words for each in made.manifest.inputs] == WORDS[name]
    assert made.manifest.layer.shape == (12, 6, 8)
    assert made.manifest.classes == {"metadata": 5, "two_towers": 4}.get(name, 3)
    assert [f.what for f in check(made.bundle) if not f.ok] == []
    assert read_bundle(made.bundle) == made.manifest


def test_facts_of_inputs(several):
    numbers, kind = several("metadata").manifest.inputs
    assert (numbers.entries, kind.entries) == ((), (7,))
    (other,), (depth,) = (several(name).manifest.inputs for name in ("siamese", "depth"))
    assert (other.channel_axis, depth.channel_axis) == (1, None)  # another number of channels: prepared by the user
    assert sorted(read_frozen(several("two_towers").bundle)) == ["mask", "words"]
    assert read_frozen(several("metadata").bundle) == {}


@pytest.mark.parametrize("name", NAMES)
def test_gradient_is_that_of_torch_in_float64(several, run, name):
    made = several(name)
    module = type(made.module)().double().eval()
    others = module.example(3, seed=4)
    x = torch.rand(3, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    feeds = {each.tensor: value.numpy() for each, value in zip(made.manifest.inputs, others, strict=False)}
    classes = np.array([2, 0, 1])
    given = run(made.bundle / "explain.onnx", {"image": x.numpy(), "class_index": classes, **feeds})
    others = module.example() if name == "two_towers" else others
    others = [v.double() if v.is_floating_point() else v for v in others]
    layer = module.before(x.double(), others).detach().requires_grad_(True)
    scores = module.after(layer, others)
    scores = scores[0] if isinstance(scores, tuple) else scores
    (gradient,) = torch.autograd.grad(scores[range(3), classes].sum(), layer)
    for ours, theirs in ((given["logits"], scores), (given["activations"], layer), (given["gradients"], gradient)):
        expected = theirs.detach().numpy()
        assert np.abs(ours - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["metadata", "siamese", "depth"])
def test_batch_that_is_fixed_becomes_free(several, tmp_path, run, name):
    made = several(name)
    source = made.module.write(tmp_path / "fixed.onnx", batch=1)
    export_model(source, tmp_path / "fixed.fcam", image="image", preprocessing="unit")
    assert [f.what for f in check(tmp_path / "fixed.fcam") if not f.ok] == []
    feeds = {"image": np.random.default_rng(0).random((3, 3, 24, 32), np.float32), "class_index": np.array([0, 1, 2])}
    feeds |= {e.tensor: v.numpy() for e, v in zip(made.manifest.inputs, made.module.example(3), strict=True)}
    free, fixed = (run(b / "explain.onnx", feeds) for b in (made.bundle, tmp_path / "fixed.fcam"))
    for part in free:
        assert np.allclose(free[part], fixed[part], rtol=0, atol=1e-5 * np.abs(free[part]).max())


@pytest.mark.parametrize(("name", "precision"), [("metadata", "fp16"), ("siamese", "fp16"), ("siamese", "int8")])
def test_scores_of_other_precisions(several, pictures, tmp_path, name, precision):
    calibrate = (lambda prep: iter(pictures)) if precision == "int8" else None
    options = {"precision": precision, "calibrate": calibrate, "accept_drift": precision == "int8"}
    source = several(name).source
    manifest = export_model(source, tmp_path / "m.fcam", image="image", preprocessing="unit", **options)
    assert [f.what for f in check(tmp_path / "m.fcam", accept_drift=precision == "int8") if not f.ok] == []
    score = onnxruntime.InferenceSession(tmp_path / "m.fcam" / "score.onnx")
    types = {i.name: i.type for i in score.get_inputs()}
    assert all(types[each.tensor] == each.runtime_type for each in manifest.inputs)


def test_either_of_two_pictures_is_explained(several, tmp_path, run):
    made = several("siamese")
    manifest = export_model(made.source, tmp_path / "m.fcam", image="other", preprocessing="unit")
    assert (manifest.source.input, [each.name for each in manifest.inputs]) == ("other", ["image"])
    assert manifest.inputs[0].tensor == "image/source"  # the name is that of the explained picture
    one, two = np.random.default_rng(0).random((2, 1, 3, 24, 32), np.float32)
    ours = run(tmp_path / "m.fcam" / "explain.onnx", {"image": two, "image/source": one, "class_index": np.array([0])})
    assert np.allclose(ours["logits"], run(made.source, {"image": one, "other": two})["scores"], atol=1e-5)
    assert np.abs(ours["gradients"]).max() > 0


def test_frozen_input_is_a_constant(several, tmp_path, run):
    made = several("metadata")
    numbers = np.array([0.5, -1, 2, 0])
    manifest = export_model(made.source, tmp_path / "m.fcam", inputs={"numbers": numbers, "kind": "3"})
    assert manifest.inputs == ()
    x = np.random.default_rng(0).random((2, 3, 24, 32), np.float32)
    given = run(tmp_path / "m.fcam" / "score.onnx", {"image": x})["logits"]
    rows = {"numbers": np.tile(numbers.astype(np.float32), (2, 1)), "kind": np.array([3, 3])}
    assert np.allclose(given, run(made.source, {"image": x, **rows})["scores"], atol=1e-5)
    assert [f.what for f in check(tmp_path / "m.fcam") if not f.ok] == []
    randomised_bundle(tmp_path / "m.fcam", tmp_path / "r.fcam")
    assert read_frozen(tmp_path / "r.fcam")["kind"] == [3]


def test_texts_are_classes(several, tmp_path, run):
    made = several("two_towers")
    words, mask = made.module.example()
    x = torch.rand(2, 3, 24, 32)
    expected = made.module(x, words, mask)[0].detach().numpy()
    assert np.allclose(run(made.bundle / "score.onnx", {"image": x.numpy()})["logits"], expected, atol=1e-5)
    labelled = {"words": words[:2].numpy(), "mask": mask[:2].numpy()}
    manifest = export_model(
        made.source, tmp_path / "m.fcam", inputs=labelled, output="per_picture", labels=["a cat", "a dog"]
    )
    assert manifest.labels == ("a cat", "a dog")
    held = {i.name for i in onnx.load(made.bundle / "score.onnx").graph.initializer}
    assert not any("words" in name or "mix" in name for name in held)  # the text tower is folded


REFUSED = {
    "which_picture": ("siamese", {}, r"several inputs that can be the picture: 'image' .*; name it with --image$"),
    "no_such_picture": ("siamese", {"image": "x"}, r"no input 'x' for --image; it has 'image' float32"),
    "no_such_input": ("metadata", {"inputs": {"x": 1}}, r"no input 'x'; it has image, numbers, kind"),
    "shape": ("metadata", {"inputs": {"numbers": "1,2"}}, r"takes float32 \(\?, 4\), and is given \(2\)"),
    "type": ("metadata", {"inputs": {"kind": 1.5}}, r"'kind' takes int64, which cannot hold the float64"),
    "text": ("metadata", {"inputs": {"kind": "cat"}}, r"takes int64: give a number, .*, not 'cat'$"),
    "no_file": ("metadata", {"inputs": {"kind": "none.npy"}}, r"input 'kind' cannot be read: .*No such file"),
    "nothing_to_open": ("metadata", {"inputs": {"kind": None}}, r"has no default, so it is open already"),
    "open_size": ("two_towers", {"output": "per_picture"}, r"'words' int64 .* open; freeze it with --input words="),
    "single": (
        "metadata",
        {"single": True},
        r"--single takes models of one input, .* 'kind' int64 \(\): export it with",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(several, tmp_path, case):
    name, options, text = REFUSED[case]
    with pytest.raises(UsageError, match=text) as error:
        export_model(several(name).source, tmp_path / "m.fcam", **options)
    assert "\n" not in str(error.value)
