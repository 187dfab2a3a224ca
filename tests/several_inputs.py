"""Small torch models with several inputs: metadata, two pictures, a depth map, a text tower."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from fusioncam.export import export_model
from fusioncam.manifest import Manifest

SIZE = (24, 32)
TEXTS, TOKENS, WORDS = 4, 5, 11


class Tower(nn.Module):
    """The part before the layer, (N, 12, 6, 8) after a Relu."""

    def __init__(self, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 12, 3, padding=1, stride=2)
        with torch.no_grad():
            self.second.bias += 0.5  # or chance would leave channels without a response

    def forward(self, x):
        return torch.relu(self.second(torch.max_pool2d(torch.relu(self.first(x)), 2)))


class Several(nn.Module):
    """A model in two parts: `before` makes the layer, `after` the scores; both get the further inputs, too."""

    examples: ClassVar = {}
    """Shapes of the further inputs without the batch, and the least whole number that they do not take, if any."""
    picture = "image"
    outputs = ("scores",)

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.tower = Tower()
        self.make()

    def before(self, x, others):
        return self.tower(x)

    def forward(self, x, *others):
        return self.after(self.before(x, others), others)

    def example(self, batch=2, seed=0):
        """The further inputs of a batch, in order."""
        rng = torch.Generator().manual_seed(seed)
        made = []
        for shape, below in self.examples.values():
            size = (batch, *shape)
            made.append(torch.rand(size, generator=rng) if below is None else torch.randint(below, size, generator=rng))
        return made

    def write(self, path, batch=None, names=None, order=None):
        """Export to ONNX, with a free batch or a fixed one."""
        names = names or [self.picture, *self.examples]
        free = {name: {0: "n"} for name in names} if batch is None else None
        example = (torch.rand(batch or 2, 3, *SIZE), *self.example(batch or 2))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.eval(), example, path, input_names=names, output_names=list(self.outputs), dynamic_axes=free,
                dynamo=False,
            )  # fmt: skip
        return path


class Metadata(Several):
    """A picture with four numbers, and a kind of seven."""

    examples: ClassVar = {"numbers": ((4,), None), "kind": ((), 7)}

    def make(self):
        self.kinds, self.hidden, self.last = nn.Embedding(7, 3), nn.Linear(12 + 4 + 3, 16), nn.Linear(16, 5)

    def after(self, layer, others):
        numbers, kind = others
        joined = torch.cat([layer.mean((2, 3)), numbers, self.kinds(kind)], 1)
        return self.last(torch.relu(self.hidden(joined)))


class Siamese(Several):
    """Two pictures through one tower."""

    examples: ClassVar = {"other": ((3, *SIZE), None)}

    def make(self):
        self.last = nn.Linear(24, 3)

    def after(self, layer, others):
        one, two = layer.mean((2, 3)), self.tower(others[0]).mean((2, 3))
        return self.last(torch.cat([(one - two).abs(), one * two], 1)) * 4


class Depth(Several):
    """A picture and a depth map, joined before the first convolution."""

    examples: ClassVar = {"depth": ((1, *SIZE), None)}

    def make(self):
        self.tower, self.last = Tower(4), nn.Linear(12, 3)

    def before(self, x, others):
        return self.tower(torch.cat([x, others[0]], 1))

    def after(self, layer, others):
        return self.last(layer.mean((2, 3)))


class TwoTowers(Several):
    """Likeness of pictures and texts, as CLIP: `per_picture` (N, texts) and its transpose."""

    outputs = ("per_picture", "per_text")

    def make(self):
        self.project, self.words = nn.Linear(12, 6), nn.Embedding(WORDS, 6)
        self.mix = nn.Linear(6, 6)

    def after(self, layer, others):
        words, mask = others
        text = torch.tanh(self.mix(self.words(words))) * mask[..., None].to(layer.dtype)
        text = text.cumsum(1).mean(1)
        picture = self.project(layer.mean((2, 3)))
        picture, text = (v / v.norm(dim=-1, keepdim=True) for v in (picture, text))
        per_picture = 10 * picture @ text.T
        return per_picture, per_picture.T

    def example(self, batch=2, seed=0):
        rng = torch.Generator().manual_seed(seed)
        words = torch.randint(WORDS, (TEXTS, TOKENS), generator=rng)
        return [words, (torch.arange(TOKENS) < torch.tensor([[2], [3], [4], [5]])).long()]

    def write(self, path):
        axes = {"image": {0: "n"}, "words": {0: "t", 1: "s"}, "mask": {0: "t", 1: "s"}}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                self.eval(), (torch.rand(2, 3, *SIZE), *self.example()), path, input_names=list(axes),
                output_names=list(self.outputs), dynamic_axes=axes, dynamo=False,
            )  # fmt: skip
        return path


MODELS = {"metadata": Metadata, "siamese": Siamese, "depth": Depth, "two_towers": TwoTowers}


@dataclass(frozen=True)
class Made:
    """A model of several inputs, with its ONNX file and its bundle."""

    module: nn.Module
    source: Path
    bundle: Path
    manifest: Manifest


def export(name, folder):
    module = MODELS[name]()
    source = module.write(folder / "model.onnx")
    options = {"image": "image", "preprocessing": {"rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.25,) * 3}}
    if name == "two_towers":
        words, mask = module.example()
        options |= {"inputs": {"words": words.numpy(), "mask": mask.numpy()}, "output": "per_picture"}
    manifest = export_model(source, folder / "model.fcam", **options)
    return Made(module, source, folder / "model.fcam", manifest)
