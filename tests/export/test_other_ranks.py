"""Models of signals (N, C, L) and of volumes (N, C, D, H, W): how inputs and layers are read, and the gradient."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from fusioncam.errors import UsageError
from fusioncam.export import check, export_torch, single_graph
from fusioncam.export.triton import write_repository
from fusioncam.manifest import read_bundle
from tests.spatial_models import SIZES, Network

LAYER = "relu"  # the first ReLU: all kinds of operators come after it
LATER = "relu_1"  # the last but one: before it, float32 rounding in these nets is larger than many of the differences
RANKS = pytest.mark.parametrize("rank", SIZES)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Bundles of networks, by rank."""
    made = {}
    for rank, size in SIZES.items():
        network = Network(rank).eval()
        folder = tmp_path_factory.mktemp("bundles") / f"rank-{rank}.fcam"
        export_torch(network, torch.zeros(1, 2, *size), folder, layer=LAYER)
        made[rank] = folder
    return made


@RANKS
def test_the_gradient_is_that_of_autograd_in_float64(bundles, rank):
    folder = bundles[rank]
    session = onnxruntime.InferenceSession(str(folder / "explain.onnx"), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 2, *SIZES[rank])).astype(np.float32)
    classes = np.array([1, 3])
    logits, activations, gradients = session.run(
        ["logits", "activations", "gradients"], {"image": x, "class_index": classes}
    )
    exact = Network(rank).eval().double()
    a = exact.features[:3](torch.from_numpy(x).double()).detach().requires_grad_()
    out = exact.head(exact.after(exact.features[3:](a)).flatten(2).mean(2))
    (wanted,) = torch.autograd.grad(out[range(2), classes].sum(), a)
    assert np.abs(logits - out.detach().numpy()).max() < 1e-4
    assert np.abs(activations - a.detach().numpy()).max() < 1e-5
    assert np.abs(gradients - wanted.numpy()).max() < 1e-5 * np.abs(wanted.numpy()).max()


@RANKS
def test_the_check_agrees(rank, tmp_path):
    export_torch(Network(rank).eval(), torch.zeros(1, 2, *SIZES[rank]), tmp_path / "later.fcam", layer=LATER)
    assert all(finding.ok for finding in check(tmp_path / "later.fcam"))


@RANKS
def test_the_manifest_says_the_axes(bundles, rank):
    manifest = read_bundle(bundles[rank])
    assert manifest.preprocessing.size == SIZES[rank]
    assert manifest.preprocessing.resize == {1: "none", 3: "squash"}[rank]
    assert manifest.layer.shape == (8, *SIZES[rank])
    assert manifest.layer.roles == {1: "NCL", 3: "NCDHW"}[rank]
    assert manifest.has_head


@pytest.mark.parametrize(
    ("rank", "options", "shape", "axis"),
    [(1, {"last": True}, (60, 2), 2), (3, {"video": True}, (6, 2, 10, 12), 2)],
)
def test_channels_are_found_on_other_axes(tmp_path, rank, options, shape, axis):
    network = Network(rank, **options).eval()
    manifest = export_torch(network, torch.zeros(1, *shape), tmp_path / "b.fcam")
    assert manifest.source.channel_axis == axis
    assert manifest.preprocessing.shape == (2, *SIZES[rank])
    x = np.random.default_rng(0).standard_normal((1, 2, *SIZES[rank])).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "b.fcam/score.onnx"), providers=["CPUExecutionProvider"])
    wanted = network(torch.from_numpy(np.moveaxis(x, 1, axis))).detach().numpy()
    np.testing.assert_allclose(session.run(None, {"image": x})[0], wanted, atol=1e-4)


class Tokens(nn.Module):
    """A transformer of one block over patches of a signal or a volume, with a class token."""

    def __init__(self, rank):
        super().__init__()
        torch.manual_seed(0)
        self.embed = {1: nn.Conv1d, 3: nn.Conv3d}[rank](1, 16, 2, stride=2)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, x):
        """The logits (N, 3), of the class token and the mean over all patches."""
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(x), -1, -1), tokens], 1)
        tokens = self.norm(self.block(tokens))
        return self.head(tokens[:, 0] + tokens[:, 1:].mean(1))


@pytest.mark.parametrize(("size", "grid"), [((32,), (16,)), ((4, 6, 10), (2, 3, 5))])
def test_tokens_of_patches_are_laid_out(tmp_path, size, grid):
    manifest = export_torch(Tokens(len(size)).eval(), torch.zeros(1, 1, *size), tmp_path / "b.fcam")
    assert manifest.layer.grid == grid
    assert (manifest.layer.roles, manifest.layer.offset) == ("NTC", 1)


def test_axes_that_could_both_hold_the_channels_are_asked_for(tmp_path):
    class Mean(nn.Module):
        """Without a convolution, whose weights would tell."""

        def forward(self, x):
            return x.flatten(1)[:, :4]

    with pytest.raises(UsageError, match="--layout ncl or --layout nlc"):
        export_torch(Mean(), torch.zeros(1, 16, 16), tmp_path / "b.fcam")


def test_what_is_for_pictures_only_is_refused_in_a_line(bundles, tmp_path):
    folder = bundles[3]
    with pytest.raises(UsageError, match="for pictures, and the model takes volumes"):
        single_graph(folder)
    with pytest.raises(UsageError, match="for pictures, and the model takes volumes"):
        write_repository(folder, tmp_path / "repository", ["fusion_cam"])
    with pytest.raises(UsageError, match="one positive whole number, L"):
        export_torch(Network(1).eval(), torch.zeros(1, 2, 60), tmp_path / "c.fcam", size=(8, 8))
