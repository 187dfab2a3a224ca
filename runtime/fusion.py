"""Fusion-CAM of one picture: which masked passes it takes, and what becomes of their logits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.masks import MaskMaker
from fusioncam.runtime.scoring import Array, Ending, Floats, MaskedPasses, probabilities

METHODS = ("fusion_cam", "grad_cam", "score_cam")


@dataclass(frozen=True)
class Evidence:
    """What the explain pass gives for one class: logits (classes,), activations and gradients (K, h, w)."""

    class_index: int
    logits: Floats
    activations: Floats
    gradients: Floats


@dataclass
class ClassMaps:
    """The maps (H, W) of one class, and the special cases met on the way."""

    maps: dict[str, Array] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


def make_maps(
    passes: MaskedPasses, evidence: Sequence[Evidence], ending: Ending, methods: Sequence[str]
) -> list[ClassMaps]:
    """The maps of all classes of one picture, which share the masked passes; arXiv 2603.05386, steps 1 to 4.

    Args:
        passes: The masked passes of the picture.
        evidence: One per class.
        ending: See `probabilities`.
        methods: Which maps are wanted. Those they are made of come along.

    Returns:
        One `ClassMaps` per class.
    """
    made = [ClassMaps() for _ in evidence]
    fused = "fusion_cam" in methods
    denoised = []
    if fused or "grad_cam" in methods:
        gradient = [
            reference.grad_cam(e.activations.astype(np.float64), e.gradients.astype(np.float64), passes.size)
            for e in evidence
        ]
        _keep(made, "grad_cam", gradient)
        denoised = [reference.denoise(g) for g in gradient] if fused else []
    if fused or "score_cam" in methods:
        region, logits = _regions(passes, evidence, denoised)
        _keep(made, "score_cam", region)
        if fused:
            classes = [e.class_index for e in evidence]
            _keep(made, "fusion_cam", _fuse(passes, made, denoised, region, logits, classes, ending))
    return made


def _regions(
    passes: MaskedPasses, evidence: Sequence[Evidence], denoised: Sequence[Array]
) -> tuple[list[Array], Floats]:
    """Step 2: R of every class; also the logits of x * 0 and of every x * D, which ride along behind the channels."""
    activations, classes = evidence[0].activations, [e.class_index for e in evidence]
    masks = MaskMaker(activations, passes.image)
    live = np.flatnonzero(~masks.zero & ~masks.constant)
    passes.total = len(live) + 1 + 3 * len(denoised)
    nothing = np.zeros(passes.size, np.float32)
    of_live, of_maps = passes.of_channels(masks, live, classes, [nothing, *denoised])
    # The mask of a constant channel is zero, so its score is that of x * 0. Channels of zeros are left out.
    scores = np.tile(of_maps[0, classes].astype(np.float64), (len(activations), 1))
    scores[live] = of_live
    some = activations[~masks.zero].astype(np.float64)
    return [reference.score_cam(some, s, passes.size) for s in scores[~masks.zero].T], of_maps


def _fuse(
    passes: MaskedPasses,
    made: Sequence[ClassMaps],
    denoised: Sequence[Array],
    region: Sequence[Array],
    logits: Floats,
    classes: Sequence[int],
    ending: Ending,
) -> list[Array]:
    """Steps 3 and 4, given the logits of x * 0 and of every x * D."""
    neutral = probabilities(logits[0], ending)[classes]

    def gains(rows: Floats) -> list[float]:
        found: list[float] = (probabilities(rows, ending)[range(len(classes)), classes] - neutral).tolist()
        return found

    by_map = zip(gains(logits[1:]), gains(passes.of_maps(region)), strict=True)
    first = [reference.contributions(*each) for each in by_map]
    union = [reference.unite(*each) for each in zip(denoised, region, first, strict=True)]
    # The region's share goes into the second division as the first one left it.
    of_union = gains(passes.of_maps(union))
    second = [reference.contributions(u, s.second) for u, s in zip(of_union, first, strict=True)]
    for m, *shares in zip(made, first, second, strict=True):
        m.flags += ["equal_contributions"] * any(s.degenerate for s in shares)
        m.flags += ["mixed_contributions"] * any(s.mixed for s in shares)
    return [reference.blend(*each) for each in zip(union, region, second, strict=True)]


def _keep(made: Sequence[ClassMaps], method: str, maps: Sequence[Array]) -> None:
    for m, array in zip(made, maps, strict=True):
        m.maps[method] = array
        if not array.any():
            m.flags.append(f"flat_{method}")
