"""Small random networks of every task, their bundles, and the method by torch in float64 for any of their targets."""

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from fusioncam.export import export_model

SIZE, LAYER = (24, 32), "/body/body.5/Relu_output_0"
UNIT = {"rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.25,) * 3}
LABELS = ("sky", "tree", "road", "cat")


class Network(nn.Module):
    """Convolutions up to the layer, (channels, 6, 8), and a head."""

    def __init__(self, head, channels=12):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, channels, 3, 2, 1), nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
        )  # fmt: skip
        self.head = head

    def forward(self, x):
        return self.head(self.body(x))


def _maps(outputs, channels=12, wide=1):
    upsampled = [nn.Upsample(scale_factor=wide, mode="bilinear")] if wide > 1 else []
    return nn.Sequential(nn.Conv2d(channels, 10, 3, 1, 1), nn.ReLU(), nn.Conv2d(10, outputs, 1), *upsampled)


def _vector(outputs):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, outputs))


HEADS = {
    "segment": (lambda: _maps(4, wide=2), 12, {"task": "segment", "labels": LABELS}),
    "sigmoid": (lambda: nn.Sequential(_maps(4), nn.Sigmoid()), 12, {"task": "segment", "labels": LABELS}),
    "heat": (lambda: _maps(2), 12, {"task": "value"}),
    "values": (lambda: _vector(3), 12, {"task": "value", "ending": "value"}),
    "one": (lambda: _vector(1), 12, {"ending": "value"}),
    "classes": (lambda: _vector(4), 12, {"ending": "softmax", "labels": LABELS}),
    "embed": (lambda: _vector(7), 12, {"task": "embed"}),
    "many": (lambda: _maps(3, 300), 300, {"task": "segment"}),
}


@dataclass(frozen=True)
class Made:
    """A network and its bundle."""

    network: Network
    bundle: Path
    source: Path


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Makes and exports the network of a name once, or another bundle of it by options."""
    known = {}

    def make(name, **options):
        key = (name, *sorted(options.items()))
        if key not in known:
            head, channels, usual = HEADS[name]
            torch.manual_seed(3)
            network = Network(head(), channels)
            with torch.no_grad():
                for parameter in network.parameters():
                    parameter *= 2.5 if parameter.ndim > 1 else 1
                if name == "segment":
                    network.head[2].bias[3] -= 20  # a class that wins nowhere
            folder = tmp_path_factory.mktemp(name)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    network, (torch.rand(1, 3, *SIZE),), folder / "m.onnx", dynamo=False, opset_version=17,
                    input_names=["image"], dynamic_axes={"image": {0: "batch"}},
                )  # fmt: skip
            export_model(
                folder / "m.onnx", folder / "m.fcam", **{"preprocessing": UNIT, "layer": LAYER, **usual, **options}
            )
            known[key] = Made(network.double(), folder / "m.fcam", folder / "m.onnx")
        return known[key]

    return make


@pytest.fixture(scope="session")
def drawn():
    """A detector made by hand, and what it sees: the module in `detectors.py`."""
    spec = importlib.util.spec_from_file_location("drawn_detectors", Path(__file__).with_name("detectors.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def photo():
    """A photo of twice the size of the input: squashing it needs no cut."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(coarse.repeat(6, 0).repeat(8, 1) // 2 + rng.integers(0, 128, (48, 64, 3)), np.uint8)


class TargetOracle:
    """The maps of a target by the oracle of `tests/oracle.py`, whose model is torch in float64.

    Args:
        oracle: The class of that oracle.
        network: The network, in float64.
        target: Returns score and confidence of the network's output (1, ...).
    """

    def __init__(self, oracle, network, target):
        self.network, self.target = network, target
        own = self

        class Torch(oracle):
            def __init__(self):
                pass

            def logits(self, x):
                return np.array([own.read(x)[0]])

            def confidence(self, x, c):
                return own.read(x)[1]

        self.oracle = Torch()

    def read(self, x):
        """Score and confidence of a picture (3, H, W)."""
        with torch.no_grad():
            return tuple(map(float, self.target(self.network(torch.from_numpy(x[None]).double()))))

    def maps(self, x):
        """Grad-CAM, Score-CAM and Fusion-CAM of a picture (3, H, W)."""
        layer = self.network.body(torch.from_numpy(x[None]).double()).detach().requires_grad_(True)
        score, _ = self.target(self.network.head(layer))
        (gradient,) = torch.autograd.grad(score, layer)
        return self.oracle.maps(x, 0, layer.detach().numpy()[0], gradient.numpy()[0])


@pytest.fixture(scope="session")
def target_oracle(oracle):
    return lambda network, target: TargetOracle(oracle, network, target)


@pytest.fixture(scope="session")
def over():
    """Makes the target of a class over a region."""
    return _over


@pytest.fixture(scope="session")
def likeness():
    """Makes the target of likeness to a vector."""
    return _likeness


def _over(c, region, chance=lambda z, c: z.softmax(1)[:, c], peak=False):
    """The target of a class over a region (h', w'), as targets.md has it."""
    weights = torch.from_numpy(np.asarray(region, np.float64))

    def read(z):
        values = z[:, c], chance(z, c)
        if peak:
            return [v[:, weights > 0].max() for v in values]
        return [(v * weights).sum() / weights.sum() for v in values]

    return read


def _likeness(reference):
    vector = torch.from_numpy(np.asarray(reference, np.float64))

    def read(y):
        cosine = F.cosine_similarity(y, vector[None])[0]
        return cosine, cosine

    return read
