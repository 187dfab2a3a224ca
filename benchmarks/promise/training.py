"""Training of the classifiers of `MODELS` on drawn scenes, and their ONNX files: needs torch, as `demo_model` does."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from demo import training
from torch import Tensor, nn
from torch.nn import functional

from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, draw_scene
from promise.models import BATCH, Row

LEARNING_RATE, SMOOTHING = 5e-3, 0.05
POOL = 12_000  # scenes that are drawn once for each size of input; turned and mirrored they are eight times as many
EVALUATED = 400
OBJECTS = (1, 2, 1, 3, 1, 1, 0, 1)  # in scene after scene; the softmax learns from those of one object

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "leaky": nn.LeakyReLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "hardswish": nn.Hardswish,
}


class Block(nn.Module):
    """Layers with a shortcut around them where the shape allows one."""

    def __init__(self, layers: nn.Sequential, shortcut: bool, after: nn.Module | None = None) -> None:
        super().__init__()
        self.layers, self.shortcut, self.after = layers, shortcut, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the layers' output, with the input added where there is a shortcut."""
        y = self.layers(x)
        return self.after(x + y if self.shortcut else y)


def _conv(
    row: Row, width: int, out: int, side: int = 3, stride: int = 1, groups: int = 1, act: bool = True
) -> Iterator[nn.Module]:
    """Yield a convolution, its normalisation and its activation."""
    yield nn.Conv2d(width, out, side, stride, side // 2, groups=groups, bias=False)
    yield nn.BatchNorm2d(out)
    if act:
        yield ACTIVATIONS[row.activation]()


def _plain(row: Row, width: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(*_conv(row, width, out, stride=stride))


def _residual(row: Row, width: int, out: int, stride: int) -> nn.Module:
    layers = nn.Sequential(*_conv(row, width, out, stride=stride), *_conv(row, out, out, act=False))
    return Block(layers, width == out and stride == 1, ACTIVATIONS[row.activation]())


def _separable(row: Row, width: int, out: int, stride: int) -> nn.Module:
    return nn.Sequential(*_conv(row, width, width, stride=stride, groups=width), *_conv(row, width, out, 1))


def _inverted(row: Row, width: int, out: int, stride: int) -> nn.Module:
    wide = 4 * width
    layers = nn.Sequential(
        *_conv(row, width, wide, 1),
        *_conv(row, wide, wide, stride=stride, groups=wide),
        *_conv(row, wide, out, 1, act=False),
    )
    return Block(layers, width == out and stride == 1)


BLOCKS = {"plain": _plain, "residual": _residual, "separable": _separable, "inverted": _inverted}


def build(row: Row) -> nn.Sequential:
    """Build the network of a row: two convolutions, blocks, the mean over positions, and a Linear."""
    width = 32
    layers: list[nn.Module] = [*_conv(row, 3, 16, stride=2), *_conv(row, 16, width, stride=2)]
    for out, stride in row.stages:
        layers.append(BLOCKS[row.block](row, width, out, stride))
        width = out
    if row.head:
        layers += _conv(row, width, row.head, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(row.channels, len(CLASSES)))


@lru_cache(maxsize=1)
def pool(size: int, count: int) -> tuple[Tensor, Tensor]:
    """Draw scenes beyond those held out: pixels (n, 3, size, size) uint8, and the classes in each (n, classes)."""
    pixels, present = np.empty((count, 3, size, size), np.uint8), np.zeros((count, len(CLASSES)), np.float32)
    for i in range(count):
        scene = draw_scene(HELD_OUT.stop + i, (size, size), OBJECTS[i % len(OBJECTS)])
        pixels[i], present[i, list(scene.masks)] = scene.image.transpose(2, 0, 1), 1
    return torch.from_numpy(pixels), torch.from_numpy(present)


def train(row: Row) -> nn.Sequential:
    """Train the network of a row on turned and mirrored scenes of the pool; return it in evaluation mode."""
    torch.manual_seed(row.number)
    pixels, present = pool(row.size, min(POOL, row.steps * BATCH))
    usable = torch.arange(len(pixels)) if row.loss == "sigmoid" else (present.sum(1) == 1).nonzero()[:, 0]
    model = build(row).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, row.steps, pct_start=0.2)
    for _ in range(row.steps):
        some = usable[torch.randint(len(usable), (BATCH,))]
        turned = torch.rot90(pixels[some], int(torch.randint(4, ())), (2, 3))
        images = training.spoil(training.preprocess(turned.flip(3) if torch.rand(()) < 0.5 else turned))
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images.to(memory_format=torch.channels_last)).float()
        if row.loss == "sigmoid":
            loss = functional.binary_cross_entropy_with_logits(logits, present[some])
        else:
            loss = functional.cross_entropy(logits, present[some].argmax(1), label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.to(memory_format=torch.contiguous_format).eval()


@torch.inference_mode()
def accuracy(model: nn.Module, size: int, count: int = EVALUATED) -> float:
    """Return the share of held-out scenes of one object whose highest logit is the object's class."""
    scenes = [draw_scene(HELD_OUT.stop - 1 - i, (size, size)) for i in range(count)]
    pixels = torch.from_numpy(np.stack([s.image.transpose(2, 0, 1) for s in scenes]))
    top = model(training.preprocess(pixels)).argmax(1)
    return float((top == torch.tensor([s.class_index for s in scenes])).float().mean())


def make(row: Row, folder: Path) -> Path:
    """Train the model of a row, unless the folder holds it, and return its ONNX file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{row.name}.onnx"
    if not path.exists():
        model = train(row)
        print(f"{row.name}: accuracy on held-out scenes {accuracy(model, row.size):.3f}", flush=True)
        training.save(training.to_onnx(model, (row.size, row.size)), path)
    return path
