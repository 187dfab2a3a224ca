"""Models exported for one fixed batch take any batch afterwards, and give each picture what it got before."""

import warnings

import numpy as np
import onnx
import pytest
import torch

from fusioncam.errors import ModelError
from fusioncam.export import export_model
from fusioncam.export.sessions import open_session

# (network, batch, whether by torch's present exporter or the one before it, whose files are still the most common)
CASES = [(n, b, True) for n in ("resnet_basic", "vit") for b in (1, 2)] + [("swin", 1, True)]
CASES += [(n, b, False) for n in ("densenet", "vit_registers", "swin", "mixer") for b in (1, 2)]


def fixed(module, batch, size, path, dynamo, dtype=torch.float):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own
        options = {"dynamo": dynamo, "opset_version": 18 if dynamo else 17, "verbose": False}
        torch.onnx.export(module, (torch.rand(batch, 3, *size).to(dtype),), path, **options)
    return path


@pytest.mark.parametrize(("name", "batch", "dynamo"), CASES)
def test_network(name, batch, dynamo, networks, tmp_path, run, torch_gradient, to_map):
    network = networks[name]
    module = network.make()
    source = fixed(module, batch, network.size, tmp_path / "fixed.onnx", dynamo)
    assert onnx.load(source).graph.input[0].type.tensor_type.shape.dim[0].dim_value == batch
    manifest = export_model(source, tmp_path / "t.fcam")
    assert manifest.layer.shape == network.shape
    images = np.random.default_rng(0).random((3, 3, *network.size), np.float32)
    feeds = {"image": images, "class_index": np.array([-1, 2, 5], np.int64)}
    given = run(tmp_path / "t.fcam" / "explain.onnx", feeds)
    wanted = torch_gradient(module, network.last, images, (-1, 2, 5), torch.float64)
    wanted[1:] = [to_map(t, network.roles, network.offset, network.shape[1:]) for t in wanted[1:]]
    for name, exact in zip(("logits", "activations", "gradients"), wanted, strict=True):
        assert np.linalg.norm(given[name] - exact) <= 2e-5 * np.linalg.norm(exact), name


class AttentionPooling(torch.nn.Module):
    """A tower whose tokens are pooled by a learnt query that is repeated over the batch, as SigLIP's are."""

    def __init__(self, width=16):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, width, 4, 4)
        self.norm = torch.nn.LayerNorm(width)
        self.probe = torch.nn.Parameter(torch.randn(1, 1, width))
        self.attention = torch.nn.MultiheadAttention(width, 2, batch_first=True)
        self.head = torch.nn.Linear(width, 7)

    def forward(self, x):
        tokens = self.norm(torch.nn.functional.gelu(self.patches(x)).flatten(2).transpose(1, 2))
        return self.head(self.attention(self.probe.repeat(len(x), 1, 1), tokens, tokens)[0][:, 0])


class Recurrent(torch.nn.Module):
    """Rows of the last feature map are read by a recurrent network."""

    def __init__(self, kind):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 3, 4)
        self.reader = kind(8 * 4, 12, batch_first=True)
        self.head = torch.nn.Linear(12, 7)

    def forward(self, x):
        rows = self.features(x).relu().permute(0, 2, 1, 3).flatten(2)
        return self.head(self.reader(rows)[0][:, -1])


TOWERS = {
    "probe": AttentionPooling,
    "lstm": lambda: Recurrent(torch.nn.LSTM),
    "gru": lambda: Recurrent(torch.nn.GRU),
}


@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize(("name", "half"), [("vit", True), ("probe", True), *((name, False) for name in TOWERS)])
def test_torch_default_export(name, half, dynamo, networks, tmp_path):
    torch.manual_seed(0)
    module = TOWERS[name]().eval() if name in TOWERS else networks[name].make()
    size = (16, 16) if name in TOWERS else networks[name].size
    images = (
        np.random.default_rng(0).random((3, 3, *size), np.float32)
        / np.array([1, 2, 3], np.float32)[:, None, None, None]
    )
    with torch.no_grad():
        wanted = module(torch.from_numpy(images)).numpy()
    dtype = torch.half if half else torch.float
    source = fixed(module.to(dtype), 1, size, tmp_path / "fixed.onnx", dynamo, dtype)
    export_model(source, tmp_path / "t.fcam", gradient=name != "probe")
    session = open_session(tmp_path / "t.fcam" / "score.onnx")  # without the optimizers that crash on float16
    given = session.run(["logits"], {"image": images})[0]
    scale = np.abs(wanted).max()
    assert np.abs(wanted[1] - wanted[0]).max() > 0.02 * scale, "the images differ"
    assert np.abs(given - wanted).max() <= (5e-3 if half else 1e-5) * scale


rng = np.random.default_rng(0)
WEIGHTS = {
    "w": rng.normal(0, 0.5, (4, 3, 3, 3)).astype(np.float32),
    "v": rng.normal(0, 0.5, (5, 4, 1, 1)).astype(np.float32),
}


def numbers(*values):
    return np.array(values, np.int64)


@pytest.fixture
def model(save_rows, tmp_path):
    """Saves a model of rows between a convolution, which makes `c`, and a head, which reads `x`, for pictures 4 x 4."""

    def save(rows, constants, shape, batch):
        rows = [
            ("Conv", "image w", "c", {"pads": [1, 1, 1, 1]}),
            *rows,
            ("Conv", "x v", "d"),
            ("GlobalAveragePool", "d", "p"),
            ("Reshape", "p shape", "scores"),
        ]
        constants = {**WEIGHTS, **constants, "shape": numbers(*shape)}
        return save_rows(tmp_path / "fixed.onnx", rows, constants, batch, (4, 4))

    return save


# Of a batch b: the rows from `c` (b, 4, 4, 4) to `x`, and their constants.
MIDDLES = {
    "constant_repeated_over_the_batch": lambda b: ([("Add", "c k", "x")], {"k": np.ones((b, 1, 1, 1), np.float32)}),
    "resize_to_sizes": lambda b: ([("Resize", "c _ _ k", "x", {"mode": "linear"})], {"k": numbers(b, 4, 7, 6)}),
    "expand": lambda b: ([("Expand", "c k", "x")], {"k": numbers(b, 4, 4, 4)}),
    "batch_behind": lambda b: (
        [("Transpose", "c", "t", {"perm": [1, 0, 2, 3]}), ("Reshape", "t k", "u"), ("Relu", "u", "r"),
         ("Reshape", "r l", "s"), ("Transpose", "s", "x", {"perm": [1, 0, 2, 3]})],
        {"k": numbers(4 * b, 16), "l": numbers(4, b, 4, 4)}),
    "squeezed": lambda b: (
        [("Unsqueeze", "c k", "t"), ("Relu", "t", "u"), ("Squeeze", "u k", "x")], {"k": numbers(0)}),
    "mean_and_gate": lambda b: (
        [("ReduceMean", "c k", "t"), ("Sigmoid", "t", "u"), ("Mul", "c u", "x")], {"k": numbers(2, 3)}),
    "einsum": lambda b: (
        [("Einsum", "c k", "x", {"equation": "nchw,dc->ndhw"})], {"k": rng.normal(size=(4, 4)).astype(np.float32)}),
    "constants_joined": lambda b: (
        [("Concat", "c k", "t", {"axis": 1}), ("Slice", "t z f o", "x")],
        {"k": np.ones((b, 2, 4, 4), np.float32), "z": [1], "f": [5], "o": [1]}),
}  # fmt: skip


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("name", MIDDLES)
def test_small_model(name, batch, model, tmp_path, run):
    source = model(*MIDDLES[name](batch), (batch, 5), batch)
    export_model(source, tmp_path / "t.fcam")
    images = rng.random((4, 3, 4, 4), np.float32)
    wanted = np.concatenate([run(source, {"image": images[i : i + batch]})["scores"] for i in range(0, 4, batch)])
    given = run(tmp_path / "t.fcam" / "score.onnx", {"image": images})["logits"]
    assert np.allclose(given, wanted, atol=1e-5)


def test_a_part_of_each_image(model, tmp_path, run):
    """Video transformers put the frames into the batch axis, and read the class token of the first."""
    rows = [("Reshape", "c k", "t"), ("Slice", "t z o z", "u"), ("Concat", "u u", "x", {"axis": 1})]
    source = model(rows, {"k": numbers(2, 2, 4, 4), "z": numbers(0), "o": numbers(1)}, (1, 5), 1)
    export_model(source, tmp_path / "t.fcam")
    images = rng.random((3, 3, 4, 4), np.float32)
    wanted = np.concatenate([run(source, {"image": image[None]})["scores"] for image in images])
    assert np.allclose(run(tmp_path / "t.fcam" / "score.onnx", {"image": images})["logits"], wanted, atol=1e-5)


LOST = {
    "mean_over_the_batch": ([("ReduceMean", "c k", "t"), ("Add", "c t", "x")], {"k": numbers(0)}),
    "each_its_own": ([("Add", "c k", "x")], {"k": np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)}),
    "batch_as_channels": (
        [("Reshape", "c k", "x")], {"k": numbers(1, 8, 4, 4), "v": np.ones((5, 8, 1, 1), np.float32)}),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_images_that_are_mixed(name, model, tmp_path):
    source = model(*LOST[name], (1 if name == "batch_as_channels" else 2, 5), 2)
    with pytest.raises(ModelError, match=r"dynamic batch axis$") as caught:
        export_model(source, tmp_path / "t.fcam")
    assert len(str(caught.value).splitlines()) == 1
