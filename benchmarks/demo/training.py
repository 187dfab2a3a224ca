"""The training of the demo's models on pictures that are drawn meanwhile, and their ONNX files: needs torch."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from fusioncam.kernels.arrays import BoolArray, UInt8Array
from fusioncam.output import write_atomically
from fusioncam.runtime.demo.scenes import HELD_OUT, SIZE

BATCH = 64  # pictures, at most
EVALUATED = 2000
MEAN, STD = 0.5, 0.25
PREPROCESSING = {"channel_order": "rgb", "rescale": 1 / 255, "mean": [MEAN] * 3, "std": [STD] * 3, "resize": "squash"}

# Numbers of objects, scene by scene. The empty scene teaches the models that bare ground and blobs, like an explainer's
# blank image, are none of the classes.
OBJECTS = (1, 2, 1, 3, 1, 2, 0, 1)

# Output channels and stride of each 3x3 convolution. The stride ends at 8, a 12x12 map for 96x96 pixels, and the
# last units see 71 pixels, so that the largest object fits their view.
LAYERS = ((16, 2), (32, 2), (48, 1), (64, 2), (64, 1), (64, 1), (64, 1))
GRID = (SIZE[0] // 8, SIZE[1] // 8)

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Recipe:
    """The making of one of the demo's models.

    Attributes:
        file: The ONNX file, packaged with fusioncam.
        output: Name of the model's output.
        names: Names of its classes; none where its output has no classes.
        steps: Batches of `batch` pictures.
        learning_rate: The highest one.
        build: Makes the network, with random weights.
        pictures: Makes a data set of so many pictures from a seed on.
        loss: Of a network and a batch, a scalar; `place_weight` weighs the part of it, if there is one, that asks where
            the evidence lies.
        figures: Of a trained network and a number of held-out pictures: how good it is, by name.
        size: Height and width of the model's input.
        input: Name of the model's input.
        metadata: Of the file, in place of the names and of `PREPROCESSING`.
        threads: Of the training. Small layers do not fill two.
        batch: Pictures of a step.
    """

    file: Path
    output: str
    names: tuple[str, ...]
    steps: int
    learning_rate: float
    build: Callable[[], nn.Module]
    pictures: Callable[[int, int], Dataset[Batch]]
    loss: Callable[..., Tensor]
    figures: Callable[[nn.Module, int], Mapping[str, float]]
    size: tuple[int, int] = SIZE
    input: str = "image"
    metadata: Mapping[str, str] | None = None
    threads: int = 2
    batch: int = BATCH


def conv(width: int, out: int, stride: int = 1) -> list[nn.Module]:
    """Return a 3x3 convolution with batch norm and ReLU."""
    return [nn.Conv2d(width, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()]


def encoder(layers: tuple[tuple[int, int], ...] = LAYERS, width: int = 3) -> list[nn.Module]:
    """Return convolutions by their output channels and strides, the first with `width` input channels."""
    blocks: list[nn.Module] = []
    for channels, stride in layers:
        blocks += conv(width, channels, stride)
        width = channels
    return blocks


def pixels_of(image: UInt8Array) -> Tensor:
    """Return an image (H, W, 3) as a tensor (3, H, W) uint8."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def shares_of(mask: BoolArray, grid: tuple[int, int] = GRID) -> Tensor:
    """Return the share (h, w) of each cell of a grid that a mask (H, W) covers."""
    return functional.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None], grid)[0]


def preprocess(pixels: Tensor) -> Tensor:
    """Map pixels (N, 3, H, W) uint8 to the model's input, as `PREPROCESSING` says."""
    return (pixels * (1 / 255) - MEAN) / STD


def spoil(images: Tensor, least: float = 0.4) -> Tensor:
    """Fade images (N, 3, H, W) unevenly towards grey, as an explainer's soft masks do, and add noise.

    Args:
        images: Preprocessed.
        least: Contrast that is left where they fade most.
    """
    fade = functional.interpolate(torch.rand(len(images), 1, 4, 4), images.shape[-2:], mode="bilinear")
    return images * (least + (1 - least) * fade) + 0.05 * torch.randn_like(images)


def misplacement(evidence: Tensor, shares: Tensor) -> Tensor:
    """Return how little of a softmax over the places of evidence falls on an object, 0 where all of it does.

    Args:
        evidence: (N, M, h, w).
        shares: (N, M, h, w), the share of each place that the object covers.

    Returns:
        (N, M).
    """
    on_object = (evidence.flatten(2).softmax(dim=2) * shares.flatten(2)).sum(dim=2)
    return -(on_object + 1e-6).log()


def train(recipe: Recipe, steps: int | None = None, seed: int = 0, workers: int = 0, **weights: float) -> nn.Module:
    """Train the model of a recipe.

    Args:
        recipe: What to train, and on what.
        steps: Batches of pictures, by default the recipe's.
        seed: Chooses the initial weights and the pictures, none of which has a seed in `HELD_OUT`.
        workers: Processes that draw pictures in advance; 0 draws between the steps. The result is the same.
        **weights: Of parts of the loss, by default the recipe's.

    Returns:
        The model in evaluation mode.
    """
    steps, batch_size = recipe.steps if steps is None else steps, min(recipe.batch, BATCH)
    torch.manual_seed(seed)
    model = recipe.build()
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, steps, pct_start=0.2)
    pictures = recipe.pictures(HELD_OUT.stop * (1 + seed), steps * batch_size)
    for step, batch in enumerate(DataLoader(pictures, batch_size, num_workers=workers), start=1):
        loss = recipe.loss(model, *batch, **weights)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            print(f"step {step:5d} of {steps}  loss {loss.item():.4f}", flush=True)
    return model.eval()


def to_onnx(
    model: nn.Module,
    size: tuple[int, int] = SIZE,
    output: str = "logits",
    names: tuple[str, ...] = (),
    input_name: str = "image",
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:
    """Convert a model, batch norms folded, its batch free.

    Args:
        model: In evaluation mode.
        size: (H, W).
        output: Name of its output.
        names: Those of its classes.
        input_name: Name of its input.
        metadata: Of the file; by default the names and the preprocessing.
    """
    program = torch.onnx.export(
        model,
        (torch.zeros(2, 3, *size),),
        input_names=[input_name],
        output_names=[output],
        dynamic_shapes=({0: torch.export.Dim("N")},),
        opset_version=18,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # None comes only from the older exporter
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # notes of the exporter, with stack traces and file names
    if metadata is None:
        named = {"names": json.dumps(names)} if names else {}
        metadata = {**named, "fusioncam.preprocessing": json.dumps(PREPROCESSING)}
    onnx.helper.set_model_props(proto, dict(metadata))
    onnx.checker.check_model(proto, full_check=True)
    return proto


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write the model to `path` whole, or leave the old file."""
    write_atomically(path, proto.SerializeToString(deterministic=True))
