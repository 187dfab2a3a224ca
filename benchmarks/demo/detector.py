"""The demo's detector: which shapes are where?

It is built as YOLOv8 is, in small: a backbone of C2f blocks with SPPF at its end, a neck that goes up and down again
(PAN, arXiv 1803.01534), three levels of stride 8, 16 and 32, and on each a branch for boxes and one for classes. A
place of a level gives the distances to the four edges of a box, each as a distribution over `BINS` (arXiv 2006.04388),
and one logit per class. The file has what Ultralytics' exports have: `output0` (N, 4 + classes, places) with centres,
widths and heights in pixels and the classes' probabilities, and the metadata by which such files are known.
"""

import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from demo.boxes import assign, detection_loss
from demo.precision import Found, average_precisions, without_duplicates
from demo.training import Batch, Recipe, misplacement, pixels_of, spoil
from fusioncam.runtime.demo import DETECTOR
from fusioncam.runtime.demo.crowds import LEAST, MOST, SIZE, Crowd, Seen, draw_crowd, draw_objects
from fusioncam.runtime.demo.scenes import CLASSES, HELD_OUT, sample_layout

WIDTHS = (16, 16, 32, 32, 48)  # channels at stride 2, 4, 8, 16, 32
BRANCH = 24  # channels of the branches of a level
BINS = 8
STRIDES = (8, 16, 32)
SIDES = ((0.0, 64.0), (52.0, 92.0), (84.0, 1e9))  # of the objects that a level learns: roots of areas, in pixels
PAD = 114  # grey beside a picture that is not square, as Ultralytics' letterbox has it
OBJECTS = (1, 2, 3)  # of the demo's scenes, which are a third of the pictures
LEAST_CONTRAST = 0.4
POOL = 8192  # pictures that are drawn; then they come again, turned and mirrored
PLACE_WEIGHT, TEMPERATURE = 0.3, 1.0
METADATA = {
    "description": "fusioncam's detector of drawn shapes, built as YOLOv8 is",
    "author": "fusioncam",
    "stride": str(max(STRIDES)),
    "task": "detect",
    "batch": "1",
    "imgsz": str(list(SIZE)),
    "names": str(dict(enumerate(CLASSES))),
    "channels": "3",
    "fusioncam.preprocessing": json.dumps({"rescale": 1 / 255, "resize": "letterbox"}),
}


class Pictures(Dataset[Batch]):
    """Crowds and scenes by number, letterboxed.

    A picture gives pixels (3, H, W) uint8; boxes (MOST, 4) x1, y1, x2, y2 in pixels; classes (MOST,), -1 where there is
    no object; and owners (H, W) uint8, the row of the object that a pixel belongs to, `MOST` where there is none.
    """

    def __init__(self, first_seed: int, count: int) -> None:
        """Hold `count` pictures, of which `POOL` are drawn, from `first_seed` on."""
        self.first_seed, self.count = first_seed, count
        self.pool: dict[int, Crowd] = {}

    def __len__(self) -> int:
        """Return the number of pictures."""
        return self.count

    def __getitem__(self, index: int) -> Batch:
        """Return the picture of an index: a new one, or one of the pool turned by right angles and mirrored."""
        turn, number = divmod(index, POOL)
        if number not in self.pool:
            self.pool[number] = self.draw(number)
        return tensors_of(turned(self.pool[number], turn))

    def draw(self, number: int) -> Crowd:
        """Draw a picture of the pool."""
        seed = self.first_seed + number
        if number % 3:
            drawn = draw_crowd(seed)
        else:
            drawn = draw_objects(sample_layout(seed, OBJECTS[number // 3 % len(OBJECTS)]), SIZE)
        return letterboxed(drawn, np.random.default_rng([seed, 1, 3]))


def turned(drawn: Crowd, turn: int) -> Crowd:
    """Turn a picture by right angles, and mirror it every second time four turns are through."""

    def moved(picture: np.ndarray) -> np.ndarray:
        picture = np.rot90(picture, turn % 4)
        return np.ascontiguousarray(picture[:, ::-1] if turn // 4 % 2 else picture)

    return Crowd(moved(drawn.image), tuple(Seen(seen.class_index, moved(seen.mask)) for seen in drawn.objects))


def letterboxed(drawn: Crowd, rng: np.random.Generator) -> Crowd:
    """Cut every second picture to a band across or down, and put it in the middle of `PAD`, as a letterbox does."""
    if rng.random() < 0.5:
        return drawn
    axis, length = int(rng.integers(2)), drawn.image.shape[0]
    width = int(rng.integers(length // 2, length))
    first, middle = int(rng.integers(length - width + 1)), (length - width) // 2

    def moved(picture: np.ndarray, ground: int) -> np.ndarray:
        band = np.full_like(picture, ground)
        np.moveaxis(band, axis, 0)[middle : middle + width] = np.moveaxis(picture, axis, 0)[first : first + width]
        return band

    moved_objects = (Seen(seen.class_index, moved(seen.mask, 0)) for seen in drawn.objects)
    return Crowd(moved(drawn.image, PAD), tuple(seen for seen in moved_objects if seen.mask.sum() >= LEAST))


def tensors_of(drawn: Crowd) -> Batch:
    """Return the tensors of a picture; see `Pictures`."""
    boxes, classes = torch.zeros(MOST, 4), torch.full((MOST,), -1)
    owners = np.full(drawn.image.shape[:2], MOST, np.uint8)
    for row, seen in enumerate(drawn.objects):
        boxes[row], classes[row] = torch.tensor(seen.box), seen.class_index
        owners[seen.mask] = row
    return pixels_of(drawn.image), boxes, classes, torch.from_numpy(owners)


def conv(width: int, out: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution with batch norm and SiLU."""
    return nn.Sequential(
        nn.Conv2d(width, out, size, stride, size // 2, bias=False), nn.BatchNorm2d(out, eps=1e-3), nn.SiLU()
    )


class C2f(nn.Module):
    """A block in two halves: one goes through two 3x3 convolutions, and all that there is goes into the output."""

    def __init__(self, width: int, out: int, residual: bool = True) -> None:
        super().__init__()
        self.half = out // 2
        self.first, self.last = conv(width, out, 1), conv(3 * self.half, out, 1)
        self.inner = nn.Sequential(conv(self.half, self.half), conv(self.half, self.half))
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output (N, out, h, w)."""
        kept, given = self.first(x).split(self.half, dim=1)
        made = self.inner(given)
        return self.last(torch.cat([kept, given, given + made if self.residual else made], dim=1))


class SPPF(nn.Module):
    """A block that sees the maxima of 5, 9 and 13 places beside each place."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = conv(width, width // 2, 1), conv(2 * width, width, 1)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output, as wide as its input."""
        pools = [self.first(x)]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        return self.last(torch.cat(pools, dim=1))


class Detector(nn.Module):
    """The network; see the head of this file."""

    def __init__(self) -> None:
        super().__init__()
        w1, w2, w3, w4, w5 = WIDTHS
        self.to_3 = nn.Sequential(conv(3, w1, 3, 2), conv(w1, w2, 3, 2), C2f(w2, w2), conv(w2, w3, 3, 2), C2f(w3, w3))
        self.to_4 = nn.Sequential(conv(w3, w4, 3, 2), C2f(w4, w4))
        self.to_5 = nn.Sequential(conv(w4, w5, 3, 2), C2f(w5, w5), SPPF(w5))
        self.up_4, self.up_3 = C2f(w5 + w4, w4, residual=False), C2f(w4 + w3, w3, residual=False)
        self.down_4, self.down_5 = conv(w3, w3, 3, 2), conv(w4, w4, 3, 2)
        self.out_4, self.out_5 = C2f(w3 + w4, w4, residual=False), C2f(w4 + w5, w5, residual=False)
        self.edges = nn.ModuleList(branch(width, 4 * BINS) for width in WIDTHS[2:])
        self.classes = nn.ModuleList(branch(width, len(CLASSES)) for width in WIDTHS[2:])
        for of_edges, of_classes, stride in zip(self.edges, self.classes, STRIDES, strict=True):
            nn.init.constant_(of_edges[-1].bias, 1.0)
            nn.init.constant_(of_classes[-1].bias, math.log(5 / len(CLASSES) / (SIZE[0] / stride) ** 2))
        centres, strides, self.sides = places()
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("bins", torch.arange(BINS, dtype=torch.float32)[:, None], persistent=False)

    def levels(self, images: Tensor) -> list[Tensor]:
        """Return what the neck gives of images (N, 3, H, W) in 0..1: a map of each level, the finest first."""
        three = self.to_3(images)
        four = self.to_4(three)
        five = self.to_5(four)
        up_4 = self.up_4(torch.cat([functional.interpolate(five, scale_factor=2.0), four], dim=1))
        up_3 = self.up_3(torch.cat([functional.interpolate(up_4, scale_factor=2.0), three], dim=1))
        out_4 = self.out_4(torch.cat([self.down_4(up_3), up_4], dim=1))
        return [up_3, out_4, self.out_5(torch.cat([self.down_5(out_4), five], dim=1))]

    def heads(self, levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits of the edges' distances (N, 4 * BINS, A) and those of the classes (N, classes, A)."""
        branches = (self.edges, self.classes)
        edges, classes = (
            torch.cat([one(level).flatten(2) for one, level in zip(side, levels, strict=True)], dim=2)
            for side in branches
        )
        return edges, classes

    def distances(self, edges: Tensor) -> tuple[Tensor, Tensor]:
        """Return the distances (N, 2, A) of left and upper edges, and of right and lower ones, in strides."""
        return ((edges.reshape(-1, 4, BINS, edges.shape[2]).softmax(dim=2) * self.bins).sum(dim=2)).split(2, dim=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return centres, widths, heights and probabilities (N, 4 + classes, A) of images (N, 3, H, W) in 0..1."""
        edges, classes = self.heads(self.levels(images))
        before, after = self.distances(edges)
        boxes = torch.cat([self.centres + (after - before) / 2, before + after], dim=1) * self.strides
        return torch.cat([boxes, classes.sigmoid()], dim=1)


def branch(width: int, out: int) -> nn.Sequential:
    """Return the branch of a level: two 3x3 convolutions and one of a single place."""
    return nn.Sequential(conv(width, BRANCH), conv(BRANCH, BRANCH), nn.Conv2d(BRANCH, out, 1))


def places() -> tuple[Tensor, Tensor, Tensor]:
    """Return the centres x, y of all places (2, A), in strides, the stride (1, A) and the `SIDES` (A, 2) of each."""
    centres, strides, sides = [], [], []
    for stride, reach in zip(STRIDES, SIDES, strict=True):
        rows, columns = (torch.arange(length // stride) + 0.5 for length in SIZE)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()]))
        strides.append(torch.full((1, x.numel()), float(stride)))
        sides.append(torch.tensor([reach]).expand(x.numel(), 2))
    return torch.cat(centres, dim=1), torch.cat(strides, dim=1), torch.cat(sides)


def preprocess(pixels: Tensor) -> Tensor:
    """Map pixels (N, 3, H, W) uint8 to the model's input."""
    return pixels * (1 / 255)


def loss_of(
    model: Detector,
    pixels: Tensor,
    boxes: Tensor,
    classes: Tensor,
    owners: Tensor,
    place_weight: float = PLACE_WEIGHT,
) -> Tensor:
    """Compute the loss of spoilt pictures, a scalar; see `Pictures` for the tensors, `misplaced` for a part of it."""
    levels = model.levels(spoil(preprocess(pixels), LEAST_CONTRAST))
    edges, logits = model.heads(levels)
    before, after = model.distances(edges)
    found = torch.cat([model.centres - before, model.centres + after], dim=1).transpose(1, 2)
    centres, strides = model.centres.T, model.strides.T
    owner, quality = assign(found.detach() * strides, logits.detach(), centres * strides, model.sides, boxes, classes)
    loss = detection_loss(found, edges, centres, strides, logits, boxes, classes, owner, quality).sum()
    if place_weight:
        loss = loss + place_weight * misplaced(levels, logits, classes, owners, owner, quality)
    return loss


def misplaced(
    levels: Sequence[Tensor], logits: Tensor, classes: Tensor, owners: Tensor, owner: Tensor, quality: Tensor
) -> Tensor:
    """Return how little of the evidence for an object lies on it, the mean over pictures.

    The object is one of each picture, by chance, and its evidence is that of Grad-CAM: the channels of the level that
    finds it, each by its summed gradient.

    Args:
        levels: What the neck gives.
        logits: (N, classes, A).
        classes: (N, M).
        owners: (N, H, W), the object of each pixel.
        owner: What `assign` gives, (N, A), as `quality`.
        quality: How good each place is.
    """
    place = (quality * torch.rand_like(quality)).argmax(dim=1, keepdim=True)
    row = owner.gather(1, place)
    (pictures,) = torch.nonzero(row[:, 0] >= 0, as_tuple=True)
    chosen = logits[pictures, classes.gather(1, row.clamp(min=0))[pictures, 0], place[pictures, 0]]
    gradients = torch.autograd.grad(chosen.sum(), levels, create_graph=True)
    masks = (owners[:, None] == row[..., None, None]).float()
    first, sums = 0, []
    for level, gradient in zip(levels, gradients, strict=True):
        height, width = level.shape[2:]
        mine = pictures[((place >= first) & (place < first + height * width))[pictures, 0]]
        first += height * width
        evidence = torch.einsum("nk,nkhw->nhw", gradient[mine].sum(dim=(2, 3)), level[mine])
        shares = functional.adaptive_avg_pool2d(masks[mine], (height, width))
        sums.append(misplacement(evidence[:, None] / TEMPERATURE, shares).sum())
    return torch.stack(sums).sum() / max(len(pictures), 1)


@torch.inference_mode()
def figures(model: nn.Module, count: int) -> dict[str, float]:
    """Return the average precisions on `count` held-out crowds, and on as many scenes of one to three objects."""
    found: dict[str, float] = {}
    for kind in ("crowds", "scenes"):
        pictures = [held_out(kind, number) for number in range(count)]
        answers = []
        for first in range(0, count, 100):
            pixels = torch.stack([pixels_of(drawn.image) for drawn in pictures[first : first + 100]])
            answers += list(model(preprocess(pixels)).numpy())
        kept: list[Found] = [without_duplicates(answer) for answer in answers]
        for name, figure in average_precisions(pictures, kept, len(CLASSES)).items():
            found[f"{name}, {kind}"] = figure
    return found


def held_out(kind: str, number: int) -> Crowd:
    """Draw a held-out picture: a crowd, or a scene of one to three objects."""
    if kind == "crowds":
        return draw_crowd(HELD_OUT.start + number)
    return draw_objects(sample_layout(HELD_OUT.start + number, OBJECTS[number % len(OBJECTS)]), SIZE)


def build() -> Detector:
    """Build the network, its weights in the order of memory that is quickest on a CPU."""
    return Detector().to(memory_format=torch.channels_last)


RECIPE = Recipe(
    DETECTOR, "output0", CLASSES, 1500, 4e-3, build, Pictures, loss_of, figures, SIZE, "images", METADATA, 1, batch=32
)
