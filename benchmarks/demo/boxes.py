"""The loss of a detector without anchors, as YOLOv8's: task-aligned assignment (arXiv 2108.07755), CIoU and DFL.

Boxes are x1, y1, x2, y2. A is the number of places, M that of objects of a picture; rows of class -1 are no objects.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

CANDIDATES = 10
SHARPNESS = 6.0  # exponent of the IoU in the fit of a place to an object; that of the probability is 1/2
BOX, DISTRIBUTION, CLASS = 7.5, 1.5, 0.5
TINY = 1e-7


def overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU (...) of boxes (..., 4)."""
    corner = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = corner.clamp(min=0).prod(dim=-1)
    area, other = ((box[..., 2:] - box[..., :2]).clamp(min=0).prod(dim=-1) for box in (a, b))
    return shared / (area + other - shared + TINY)


def complete_overlap(a: Tensor, b: Tensor) -> Tensor:
    """Return the CIoU (...) of boxes (..., 4): the IoU less the distance of centres and of aspects (1911.08287)."""
    iou = overlap(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]).square().sum(dim=-1) / 4
    tilts = [torch.atan((c[..., 2] - c[..., 0]) / (c[..., 3] - c[..., 1] + TINY)) for c in (a, b)]
    aspect = 4 / math.pi**2 * (tilts[0] - tilts[1]).square()
    with torch.no_grad():
        weight = aspect / (1 - iou + aspect + TINY)
    return iou - apart / (hull.square().sum(dim=-1) + TINY) - weight * aspect


@torch.no_grad()
def assign(
    found: Tensor, logits: Tensor, centres: Tensor, sides: Tensor, boxes: Tensor, classes: Tensor
) -> tuple[Tensor, Tensor]:
    """Choose the object that each place shall find, and how sure it should be.

    Args:
        found: The boxes (N, A, 4) of all places.
        logits: (N, classes, A).
        centres: (A, 2), in pixels.
        sides: (A, 2), the least and the largest object of each place, as the root of its box's area.
        boxes: Those of the objects, (N, M, 4).
        classes: (N, M).

    Returns:
        The number of the object (N, A), -1 for none, and the probability (N, A) to learn.
    """
    there = classes >= 0
    probability = logits.sigmoid().gather(1, classes.clamp(min=0)[..., None].expand(-1, -1, logits.shape[2]))
    iou = overlap(boxes[:, :, None], found[:, None]) * there[..., None]
    gaps = torch.cat([centres - boxes[:, :, None, :2], boxes[:, :, None, 2:] - centres], dim=-1)
    side = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1, keepdim=True).sqrt()
    suits = (gaps.amin(dim=-1) > 0) & (side >= sides[:, 0]) & (side <= sides[:, 1])
    fit = probability.sqrt() * iou**SHARPNESS * suits
    best = fit.topk(min(CANDIDATES, fit.shape[2]), dim=2)
    chosen = torch.zeros_like(fit).scatter(2, best.indices, 1.0) * (fit > 0)
    share, owner = (chosen * (iou + TINY)).max(dim=1)
    mine = functional.one_hot(owner, boxes.shape[1]).transpose(1, 2) * chosen
    fit, iou = fit * mine, iou * mine
    quality = fit / (fit.amax(dim=2, keepdim=True) + 1e-12) * iou.amax(dim=2, keepdim=True)
    return torch.where(share > 0, owner, -1), quality.amax(dim=1)


def detection_loss(
    found: Tensor,
    edges: Tensor,
    centres: Tensor,
    strides: Tensor,
    logits: Tensor,
    boxes: Tensor,
    classes: Tensor,
    owner: Tensor,
    quality: Tensor,
) -> Tensor:
    """Compute the three parts of the loss: of boxes, of the distributions of their edges, and of classes.

    Args:
        found: The boxes (N, A, 4) of all places, in strides.
        edges: The logits (N, 4 * bins, A) of the distances of their edges.
        centres: (A, 2), in strides.
        strides: (A, 1), in pixels.
        logits: Those of the classes, (N, classes, A).
        boxes: Those of the objects, (N, M, 4) in pixels.
        classes: (N, M).
        owner: What `assign` gives.
        quality: What `assign` gives.

    Returns:
        (3,), weighted.
    """
    picture, place = torch.nonzero(owner >= 0, as_tuple=True)
    row, weight = owner[picture, place], quality[picture, place]
    total = quality.sum().clamp(min=1)

    wanted = torch.zeros_like(logits)
    wanted[picture, classes[picture, row], place] = weight
    of_classes = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")

    box = boxes[picture, row] / strides[place]
    of_boxes = ((1 - complete_overlap(found[picture, place], box)) * weight).sum()
    distances = torch.cat([centres[place] - box[:, :2], box[:, 2:] - centres[place]], dim=1)
    spread = edges.unflatten(1, (4, -1))[picture, :, :, place]
    of_edges = (distribution_loss(spread, distances).mean(dim=1) * weight).sum()
    return torch.stack([BOX * of_boxes, DISTRIBUTION * of_edges, CLASS * of_classes]) / total


def distribution_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Return the cross-entropy (...) of distributions (..., bins) with the two bins beside each distance (...)."""
    bins = logits.shape[-1]
    distances = distances.clamp(0, bins - 1.01)
    lower = distances.floor()
    share = distances - lower
    logs = -logits.log_softmax(dim=-1)
    left, right = (logs.gather(-1, (lower.long() + step)[..., None])[..., 0] for step in (0, 1))
    return left * (1 - share) + right * share
