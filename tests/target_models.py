"""Small networks whose targets are no classes of a picture: maps of classes or values, and an embedding."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import numpy_helper, parser

from fusioncam.export import export_model

UNIT = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

BODY = """
<ir_version: 9, opset_import: ["": 17]>
net (float[N,3,24,32] image) => (float[{shape}] {name})
{{
    c1 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (image, w1, b1)
    r1 = Relu (c1)
    c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r1, w2, b2)
    layer = Relu (c2)
{rest}
}}
"""
MAPS = """
    c3 = Conv (layer, w3, b3)
    scales = Constant <value = float[4] {1.0, 1.0, 2.0, 2.0}> ()
"""
LARGER = '{name} = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (c3, , scales)'
ENDS = {
    "segment": ("N,4,12,16", "out", MAPS + LARGER.format(name="out")),
    "binary": ("N,1,12,16", "out", f"{MAPS}{LARGER.format(name='big')}\n out = Sigmoid (big)"),
    "value": ("N,2,12,16", "out", MAPS + LARGER.format(name="out")),
    "embed": (
        "N,6",
        "embedding",
        """
    c3 = Conv (layer, w3, b3)
    curved = Tanh (c3)
    pooled = GlobalAveragePool (curved)
    flat = Flatten (pooled)
    length = ReduceL2 <axes = [1], keepdims = 1> (flat)
    embedding = Div (flat, length)
""",
    ),
}
CHANNELS = {"segment": 4, "binary": 1, "value": 2, "embed": 6}


@dataclass
class TargetModel:
    """Two convolutions down to the layer, 12 x 6 x 8, then maps of 12 x 16 or an embedding of 6 numbers.

    Attributes:
        kind: `segment` (4 classes), `binary` (1 class by a sigmoid), `value` (2 values) or `embed`.
        weights: By name.
    """

    kind: str
    weights: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self):
        rng = np.random.default_rng(11)
        for name, shape in (("1", (8, 3, 3, 3)), ("2", (12, 8, 3, 3)), ("3", (CHANNELS[self.kind], 12, 1, 1))):
            weights = rng.standard_normal(shape) * 2 / np.sqrt(np.prod(shape[1:]))
            self.weights[f"w{name}"] = weights.astype(np.float32)
            self.weights[f"b{name}"] = (rng.standard_normal(shape[0]) * 0.3).astype(np.float32)
        noise = rng.standard_normal((1, 3, 24, 32))
        means = F.conv2d(self.layer(noise), self._weights()["w3"]).mean((0, 2, 3))
        self.weights["b3"] = -means.numpy().astype(np.float32)  # no class wins nearly everywhere

    @property
    def task(self):
        """The task to export the model for, where it does not say so itself."""
        return "value" if self.kind == "value" else None

    def write(self, path):
        shape, name, rest = ENDS[self.kind]
        model = parser.parse_model(BODY.format(shape=shape, name=name, rest=rest))
        model.graph.initializer.extend(numpy_helper.from_array(w, n) for n, w in self.weights.items())
        onnx.save(model, path)
        return path

    def layer(self, x):
        """A (N, 12, 6, 8) of pictures (N, 3, 24, 32), float64."""
        w = self._weights()
        inner = F.relu(F.conv2d(torch.as_tensor(x).double(), w["w1"], w["b1"], padding=1, stride=2))
        return F.relu(F.conv2d(inner, w["w2"], w["b2"], padding=1, stride=2))

    def outputs(self, layer):
        """The normal form, float64: logits (N, C, 12, 16), of one class two, -z and z; or embeddings (N, 6)."""
        w = self._weights()
        last = F.conv2d(layer, w["w3"], w["b3"])
        if self.kind == "embed":
            return F.normalize(last.tanh().mean((2, 3)), dim=1)
        maps = F.interpolate(last, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.cat([-maps, maps], 1) if self.kind == "binary" else maps

    def _weights(self):
        return {name: torch.from_numpy(array).double() for name, array in self.weights.items()}

    def probabilities(self, outputs):
        """What confidences are made of."""
        return {"segment": lambda z: z.softmax(1), "binary": torch.sigmoid}.get(self.kind, lambda z: z)(outputs)

    def wins(self, x):
        """Where each class wins, (C, 12, 16) bool."""
        logits = self.outputs(self.layer(x[None]))[0]
        if self.kind == "binary":
            return (logits > 0).numpy()
        return (logits.argmax(0) == torch.arange(len(logits))[:, None, None]).numpy()

    def score(self, outputs, target, maps=lambda outputs: outputs):
        """s of the normal form (N, ...), (N,) float64; with `probabilities` as `maps`, the confidence."""
        if "reference" in target:
            reference = torch.as_tensor(target["reference"]).double()
            return F.cosine_similarity(outputs, reference[None], dim=1)
        z = maps(outputs)[:, int(target["class_index"])]
        region = torch.as_tensor(target["region"]).double()
        if target["peak"]:
            return z[:, region > 0].amax(1)
        return (z * region).sum((1, 2)) / region.sum()

    def confidence(self, outputs, target):
        """p of the normal form, (N,) float64."""
        return self.score(outputs, target, self.probabilities)

    def evidence(self, x, target):
        """Activations and gradients (12, 6, 8) of the score, by torch's own differentiation in float64."""
        layer = self.layer(x[None]).detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(self.score(self.outputs(layer), target).sum(), layer)
        return layer.detach().numpy()[0], gradient.numpy()[0]


class Made(NamedTuple):
    """A network and its bundle."""

    network: Any
    bundle: Path


@pytest.fixture(scope="session")
def target_bundle(tmp_path_factory):
    """Makes a network of a kind, and its bundle."""
    made = {}

    def target_bundle(kind):
        if kind not in made:
            network, folder = TargetModel(kind), tmp_path_factory.mktemp(kind)
            source = network.write(folder / f"{kind}.onnx")
            export_model(source, folder / f"{kind}.fcam", layer="layer", preprocessing=UNIT, task=network.task)
            made[kind] = Made(network, folder / f"{kind}.fcam")
        return made[kind]

    return target_bundle
