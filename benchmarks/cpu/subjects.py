"""The subjects of a measurement: a network as a bundle and, with the same weights, in torch, and its pictures."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import CALIBRATION, NETWORKS, Kind, build, pictures, wide
from torch import nn
from wanted import WANTED

from fusioncam.errors import FusionCamError
from fusioncam.export import export_model, export_torch
from fusioncam.manifest import EXPLAIN_GRAPH, SCORE_GRAPH, Manifest, Preprocessing, read_bundle
from fusioncam.runtime.bench.comparison import Picture
from fusioncam.runtime.photos.model_input import ImageLike, as_input, preprocess
from fusioncam.runtime.sessions.open import open_session

PREPROCESSING = {"preset": "torchvision"}
SAME_LOGITS = 1e-3  # of the largest


@dataclass
class Subject:
    """A network to explain, and its pictures.

    Attributes:
        name: What to call it.
        bundle: Its bundle.
        manifest: The bundle's.
        pictures: Preprocessed, each with its top class.
        photos: The same before.
        weights: What the weights are: random, or the file's.
    """

    name: str
    bundle: Path
    manifest: Manifest
    pictures: list[Picture]
    photos: list[ImageLike]
    weights: str

    @property
    def channels(self) -> int:
        """Return the number K of channels."""
        return self.manifest.layer.shape[0]


@dataclass
class InTorch:
    """The network in torch, in evaluation mode, and the module whose output is the target layer."""

    network: nn.Module
    layer: nn.Module
    name: str


def kind_of(name: str) -> Kind:
    """Return the network called `name`; `wide-K` has K channels."""
    return wide(int(name.removeprefix("wide-"))) if name.startswith("wide-") else NETWORKS[name]


def built(name: str) -> nn.Module:
    """Return the network with its random weights, the same every time."""
    kind = kind_of(name)
    fields = {"rescale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    prepared = Preprocessing.model_validate({**fields, "size": (kind.size, kind.size)})
    return build(kind, np.stack([preprocess(p, prepared) for p in pictures(kind.size, CALIBRATION, seed=1)]))


def made_up(name: str, folder: Path, count: int) -> Subject:
    """Return a network with random weights, and drawn pictures."""
    kind, bundle = kind_of(name), folder / f"{name}.fcam"
    if not bundle.exists():
        example = torch.zeros(1, 3, kind.size, kind.size)
        export_torch(built(name), example, bundle, preprocessing=PREPROCESSING)
    return subject(name, bundle, pictures(kind.size, count, seed=2), "random")


def from_file(model: Path, folder: Path, photos: Sequence[ImageLike]) -> Subject:
    """Return a pretrained network, and photos."""
    bundle = folder / f"{model.stem}.fcam"
    wanted = next((fields for part, fields in WANTED.items() if model.stem.startswith(part)), {})
    if not bundle.exists():
        export_model(model, bundle, preprocessing=wanted)
    return subject(model.stem, bundle, photos, "pretrained")


def subject(name: str, bundle: Path, photos: Sequence[ImageLike], weights: str) -> Subject:
    """Return a bundle and its pictures, each with its top class."""
    manifest, score = read_bundle(bundle), open_session(bundle / SCORE_GRAPH)
    found = []
    for number, photo in enumerate(photos):
        _, x = as_input(photo, manifest.preprocessing)
        top = int(score.run(["logits"], {"image": x[None]})[0].argmax())
        found.append(Picture(Path(photo).name if isinstance(photo, str | Path) else f"drawn {number + 1}", x, top))
    return Subject(name, bundle, manifest, found, list(photos), weights)


def in_torch(name: str, bundle: Path, x: np.ndarray) -> InTorch:
    """Return a bundle's network in torch: the one it was made from, or its graph, converted by onnx2torch.

    Raises:
        ImportError: onnx2torch is not installed.
        FusionCamError: The two networks do not compute the same.
    """
    image = torch.from_numpy(x)[None]
    feeds = {"image": x[None], "class_index": np.array([-1], np.int64)}
    explain = open_session(bundle / EXPLAIN_GRAPH)
    logits, activations = explain.run(["logits", "activations"], feeds)
    if name in NETWORKS or name.startswith("wide-"):
        network = built(name)
    else:
        from peers import torchvision_without_operators

        torchvision_without_operators()
        from onnx2torch import convert

        network = convert(str(bundle / SCORE_GRAPH)).eval().requires_grad_(False)
    off = float((network(image) - torch.from_numpy(logits)).abs().max())
    if not off <= SAME_LOGITS * max(1.0, float(abs(logits).max())):
        raise FusionCamError(f"{name} in torch gives other logits: they differ by {off:.3g}")
    found = find_layer(network, image, torch.from_numpy(activations))
    return InTorch(network, dict(network.named_modules())[found], found)


def find_layer(network: nn.Module, image: torch.Tensor, activations: torch.Tensor) -> str:
    """Return the name of the outermost, last module whose output is the target layer.

    Raises:
        FusionCamError: There is none.
    """
    found: list[str] = []
    limit = 1e-3 * float(activations.abs().max())

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: Any, made: Any) -> None:
            same = isinstance(made, torch.Tensor) and made.shape == activations.shape
            if same and float((made - activations).abs().max()) <= limit:
                found.append(name)

        return hook

    handles = [m.register_forward_hook(look(name)) for name, m in network.named_modules() if name]
    with torch.no_grad():
        network(image)
    for handle in handles:
        handle.remove()
    if not found:
        raise FusionCamError("no module of the network in torch has the target layer as its output")
    return found[-1]


def folder_of_photos(folder: Path, most: int | None = None) -> list[ImageLike]:
    """Return the photos of a folder, in the order of their names, without the masks of some."""
    told = folder / "annotations.json"
    if told.is_file():
        names = [entry["file"] for entry in json.loads(told.read_text())]
    else:
        names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [folder / name for name in names[:most]]
