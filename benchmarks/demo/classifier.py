"""The demo's classifier: which shapes are in the scene?

The loss has two parts. The first asks whether each class is in the scene. The second, possible because the scenes know
their masks, asks for the source of the logit of each class in the scene: a softmax over the places of its evidence
should fall on its object. Without the second part, such a network uses evidence beside the object (the hole of a ring,
the ground next to a corner), and a map that shows that evidence looks wrong. The last layer has no bias, so that a
logit is the mean of its evidence over the map and nothing else.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from demo.training import (
    GRID,
    LAYERS,
    OBJECTS,
    Batch,
    Recipe,
    encoder,
    misplacement,
    pixels_of,
    preprocess,
    shares_of,
    spoil,
)
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, SIZE, draw_scene

PLACE_WEIGHT, TEMPERATURE = 0.3, 4.0


class Scenes(Dataset[Batch]):
    """Drawn scenes by number: pixels (3, H, W) uint8 and shares (classes, h, w) of each cell that a class covers."""

    def __init__(
        self, first_seed: int, count: int, objects: tuple[int, ...] = OBJECTS, grid: tuple[int, int] = GRID
    ) -> None:
        """Hold `count` scenes from `first_seed` on, their numbers of objects going round `objects`."""
        self.seeds = range(first_seed, first_seed + count)
        self.objects, self.grid = objects, grid

    def __len__(self) -> int:
        """Return the number of scenes."""
        return len(self.seeds)

    def __getitem__(self, index: int) -> Batch:
        """Draw the scene of an index."""
        scene = draw_scene(self.seeds[index], SIZE, self.objects[index % len(self.objects)])
        shares = torch.zeros(len(CLASSES), *self.grid)
        for class_index, mask in scene.masks.items():
            shares[class_index] = shares_of(mask, self.grid)
        return pixels_of(scene.image), shares


def build() -> nn.Sequential:
    """Build the network: 3x3 convolutions, each with batch norm and ReLU, then the mean over positions and a Linear.

    The logits are linear in the last feature map, so that class weights times activations are their evidence.
    """
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*encoder(), *head, nn.Linear(LAYERS[-1][0], len(CLASSES), bias=False))


def loss_of(model: nn.Sequential, pixels: Tensor, shares: Tensor, place_weight: float = PLACE_WEIGHT) -> Tensor:
    """Compute the loss of spoilt scenes (see the head of this file).

    Args:
        model: The result of `build`.
        pixels: (N, 3, H, W) uint8.
        shares: (N, classes, h, w), the share of each cell of the last feature map that each class covers.
        place_weight: Weight of the second part.

    Returns:
        A scalar.
    """
    activations = model[:-3](spoil(preprocess(pixels)))
    present = (shares.amax(dim=(2, 3)) > 0).float()
    presence = functional.binary_cross_entropy_with_logits(model[-3:](activations), present)

    evidence = torch.einsum("nkhw,ck->nchw", activations, model.get_parameter(f"{len(model) - 1}.weight"))
    misplaced = misplacement(evidence / TEMPERATURE, shares) * present
    return presence + place_weight * misplaced.sum() / present.sum().clamp(min=1)


@torch.inference_mode()
def accuracy(model: nn.Module, objects: int, count: int) -> float:
    """Return the share of `count` held-out scenes whose `objects` highest logits are the classes in the scene."""
    right = 0
    for pixels, shares in DataLoader(Scenes(HELD_OUT.start, count, (objects,)), batch_size=200):
        present = shares.amax(dim=(2, 3)) > 0
        top = model(preprocess(pixels)).topk(objects).indices
        right += int(present.gather(1, top).all(dim=1).sum())
    return right / count


def figures(model: nn.Module, count: int) -> dict[str, float]:
    """Return the accuracies on `count` held-out scenes of each number of objects."""
    return {f"accuracy, scenes of {objects}": accuracy(model, objects, count) for objects in (1, 2, 3)}


RECIPE = Recipe(MODEL, "logits", CLASSES, 1300, 4e-3, build, Scenes, loss_of, figures)
