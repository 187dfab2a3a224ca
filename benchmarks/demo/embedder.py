"""The demo's embedder: which scenes show the same object?

Scenes come in pairs that share one object of some outline, colours and pattern (`runtime/demo/pairs.py`). A vector is
the mean of a map of vectors, scaled to length 1. The loss has two parts. The first is contrastive (InfoNCE, arXiv
1807.03748): in a batch, each scene's own reference should have the highest cosine, and the other way round. That is
asked of the means over whole pictures, and of those over the mask of the shared object: so the ground has to become
silent. The second is the classifier's: a cosine has evidence at each place, and a softmax over the places should fall
on the shared object.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from demo.training import Batch, Recipe, encoder, misplacement, pixels_of, preprocess, shares_of, spoil
from fusioncam.runtime.demo import EMBEDDER
from fusioncam.runtime.demo.pairs import draw_pair
from fusioncam.runtime.demo.scenes import HELD_OUT, SIZE

# Output channels and stride of each 3x3 convolution: fewer than the classifier's, as colours and patterns show
# themselves nearby.
LAYERS = ((16, 2), (32, 2), (48, 2), (64, 1), (64, 1))
WIDTH = 64
PLACE_WEIGHT, TEMPERATURE = 0.3, 0.07
OBJECTS = (1, 2, 3, 2)  # of the scene, pair by pair
POOL = 8000  # pairs that are drawn; then they come again, turned and mirrored
LEAST_CONTRAST = 0.7  # of spoilt pictures: colours are part of what is shared
GALLERY = 200


class Pairs(Dataset[Batch]):
    """Pairs by number: two pictures (2, 3, H, W) uint8, and shares (2, h, w) of each cell of the shared object."""

    def __init__(self, first_seed: int, count: int, objects: tuple[int, ...] = OBJECTS) -> None:
        """Hold `count` pairs from `first_seed` on, the numbers of objects of their scenes going round `objects`."""
        self.first_seed, self.count, self.objects = first_seed, count, objects
        self.drawn: dict[int, Batch] = {}

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Return the pair of an index, the scene first; from the second round on the reference is turned."""
        turn, number = divmod(index, POOL)
        if number not in self.drawn:
            self.drawn[number] = self._draw(number)
        pixels, shares = self.drawn[number]
        return torch.stack([pixels[0], turned(pixels[1], turn)]), torch.stack([shares[0], turned(shares[1], turn)])

    def _draw(self, number: int) -> Batch:
        pair = draw_pair(self.first_seed + number, SIZE, self.objects[number % len(self.objects)])
        both = (pair.scene, pair.reference)
        shares = [shares_of(scene.masks[pair.class_index]) for scene in both]
        return torch.stack([pixels_of(scene.image) for scene in both]), torch.stack(shares)


def turned(picture: Tensor, turn: int) -> Tensor:
    """Return a picture (..., H, W) turned by quarters, and from four on mirrored."""
    quarters = torch.rot90(picture, turn % 4, (-2, -1))
    return quarters.flip(-1) if turn // 4 % 2 else quarters


class Embedder(nn.Module):
    """Convolutions, the mean over positions, a Linear without bias, and the L2 normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(*encoder(LAYERS))
        self.project = nn.Linear(LAYERS[-1][0], WIDTH, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the vectors (N, D) of length 1 of preprocessed images."""
        return functional.normalize(self.project(self.encoder(images).mean(dim=(2, 3))))


def loss_of(model: Embedder, pixels: Tensor, shares: Tensor, place_weight: float = PLACE_WEIGHT) -> Tensor:
    """Compute the loss of spoilt pairs (see the head of this file).

    Args:
        model: An embedder.
        pixels: (N, 2, 3, H, W) uint8, scenes and references.
        shares: (N, 2, h, w), the share of each cell of the last feature map that the shared object covers.
        place_weight: Weight of the second part.

    Returns:
        A scalar.
    """
    activations = model.encoder(spoil(preprocess(pixels.flatten(0, 1)), LEAST_CONTRAST))
    maps = torch.einsum("nkhw,dk->ndhw", activations, model.project.weight).unflatten(0, (-1, 2))
    whole = functional.normalize(maps.mean(dim=(3, 4)), dim=2)
    alone = functional.normalize((maps * shares[:, :, None]).sum(dim=(3, 4)), dim=2)
    matched = [contrast(a[:, 0], b[:, 1]) for a in (whole, alone) for b in (whole, alone)]
    evidence = torch.einsum("nsdhw,nsd->nshw", maps, alone.flip(1))
    return torch.stack(matched).mean() + place_weight * misplacement(evidence, shares).mean()


def contrast(scenes: Tensor, references: Tensor) -> Tensor:
    """Return how little vectors (N, D) of scenes and of their own references find each other (InfoNCE), a scalar."""
    cosines = scenes @ references.T / TEMPERATURE
    own = torch.arange(len(scenes))
    return (functional.cross_entropy(cosines, own) + functional.cross_entropy(cosines.T, own)) / 2


@torch.inference_mode()
def retrieval(model: nn.Module, objects: int, count: int) -> float:
    """Return the share of held-out scenes whose own reference has the highest cosine of `GALLERY` references."""
    right = 0
    for pixels, _ in DataLoader(Pairs(HELD_OUT.start, count, (objects,)), batch_size=GALLERY):
        scenes, references = (model(preprocess(pictures)) for pictures in pixels.unbind(dim=1))
        right += int(((scenes @ references.T).argmax(dim=1) == torch.arange(len(scenes))).sum())
    return right / count


def figures(model: nn.Module, count: int) -> dict[str, float]:
    """Return the shares of `count` held-out scenes of each number of objects whose own reference is found."""
    return {f"retrieval among {GALLERY}, scenes of {n}": retrieval(model, n, count) for n in (1, 2, 3)}


RECIPE = Recipe(EMBEDDER, "embedding", (), 1500, 3e-3, Embedder, Pairs, loss_of, figures)
