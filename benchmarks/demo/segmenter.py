"""The demo's segmenter: which pixels belong to which shape?

Its encoder is the classifier's. The decoder brings the encoder's last map (stride 8) to stride 4, adds an earlier one,
and gives logits of the ground and of each class. The loss is the cross-entropy with the share of each cell that the
classes cover, so that a cell on an edge is right where it is undecided.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from demo.classifier import Scenes
from demo.training import LAYERS, Recipe, conv, encoder, preprocess, spoil
from fusioncam.runtime.demo import SEGMENTER
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, SIZE

NAMES = ("background", *CLASSES)
GRID = (SIZE[0] // 4, SIZE[1] // 4)
EARLY = 3  # convolutions up to the last map of stride 4
WIDTH = 48


class Segmenter(nn.Module):
    """An encoder, and a decoder that adds its last map to an earlier one, as feature pyramids do (arXiv 1612.03144)."""

    def __init__(self) -> None:
        super().__init__()
        (early, _), (late, _) = LAYERS[EARLY - 1], LAYERS[-1]
        self.early = nn.Sequential(*encoder(LAYERS[:EARLY]))
        self.late = nn.Sequential(*encoder(LAYERS[EARLY:], early))
        self.from_early, self.from_late = nn.Conv2d(early, WIDTH, 1), nn.Conv2d(late, WIDTH, 1)
        self.decoder = nn.Sequential(*conv(WIDTH, WIDTH), nn.Conv2d(WIDTH, len(NAMES), 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits (N, names, H / 4, W / 4) of preprocessed images."""
        early = self.early(images)
        late = self.from_late(self.late(early))
        late = functional.interpolate(late, scale_factor=2, mode="bilinear")
        return self.decoder(self.from_early(early) + late)


def labels_of(shares: Tensor) -> Tensor:
    """Return the shares (N, names, h, w) of the ground and of each class, which add up to 1, from those of classes."""
    return torch.cat([1 - shares.sum(dim=1, keepdim=True), shares], dim=1)


def loss_of(model: nn.Module, pixels: Tensor, shares: Tensor) -> Tensor:
    """Compute the loss (see the head of this file) of pixels (N, 3, H, W) and shares (N, classes, h, w), a scalar."""
    return functional.cross_entropy(model(spoil(preprocess(pixels))), labels_of(shares))


@torch.inference_mode()
def figures(model: nn.Module, count: int) -> dict[str, float]:
    """Return the pixel accuracy and the mean intersection over union of all names, over the pixels of held-out scenes.

    Logits are interpolated to the pixels of the image; the masks are exact.
    """
    table = torch.zeros(len(NAMES), len(NAMES), dtype=torch.long)  # pixels by what they are and what they are taken for
    for pixels, shares in DataLoader(Scenes(HELD_OUT.start, count, grid=SIZE), batch_size=100):
        seen = functional.interpolate(model(preprocess(pixels)), SIZE, mode="bilinear").argmax(dim=1)
        pair = labels_of(shares).argmax(dim=1) * len(NAMES) + seen
        table += torch.bincount(pair.flatten(), minlength=table.numel()).reshape(table.shape)
    right = table.diagonal()
    union = table.sum(dim=0) + table.sum(dim=1) - right
    return {"pixel accuracy": float(right.sum() / table.sum()), "mean IoU": float((right / union).nanmean())}


RECIPE = Recipe(SEGMENTER, "logits", NAMES, 1300, 4e-3, Segmenter, partial(Scenes, grid=GRID), loss_of, figures)
