"""The recipe of the maps of one picture: which steps follow which, wherever they are computed."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple, cast

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.cam_methods import GRADIENT_MAPS, SCORE_CAMS
from fusioncam.kernels.reference import unit
from fusioncam.kernels.rise import FEWEST
from fusioncam.runtime.engine.protocols import Confidences, Maps, Shares, Steps, UnionSteps
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import REGION, Recipe, recipe, with_parts
from fusioncam.runtime.targets.resolved import ResolvedTarget


@dataclass
class TargetMaps:
    """The maps (H, W) of one target, and the flags of special cases.

    Attributes:
        maps: By method.
        flags: See `FLAGS`.
    """

    maps: dict[str, Array] = field(default_factory=dict)
    flags: list[str] = field(default_factory=list)


class ViewResult(NamedTuple):
    """The result of one forward pass of a picture, or of another view of it, and of the masked passes that follow.

    Attributes:
        targets: The targets, with their scores and confidences.
        made: Their maps.
        logits: Of all classes (classes,); None where the outputs are no vector.
        passes: Masked passes run.
        layers: Names of the layers that explain each target, of a bundle with several.
    """

    targets: list[ResolvedTarget]
    made: list[TargetMaps]
    logits: Float32Array | None
    passes: Passes
    layers: Sequence[tuple[str, ...]] = ()


class _Fusion(NamedTuple):
    """The parts of fused methods, each once: what is denoised, the region maps, and what is united."""

    noisy: dict[tuple[str, float], None]
    regions: dict[str, None]
    unions: dict[tuple[str, str, float], None]

    @classmethod
    def of(cls, recipes: Iterable[Recipe]) -> "_Fusion":
        rows = [(r.gradient, r.region, r.theta) for r in recipes]
        return cls(
            dict.fromkeys((g, theta) for g, _, theta in rows), dict.fromkeys(r for _, r, _ in rows), dict.fromkeys(rows)
        )


def _recipes(methods: Sequence[str]) -> dict[str, Recipe]:
    return {m: made_of for m in methods if (made_of := recipe(m)) is not None}


def fewest_passes(methods: Sequence[str], targets: int) -> int:
    """Return the fewest passes for so many targets: a channel of each Score-CAM, masks of RISE, and those beside."""
    fusion, parts = _Fusion.of(_recipes(methods).values()), with_parts(methods)
    maps = targets * (len(fusion.noisy) + len(fusion.regions) + len(fusion.unions))
    channels = len({made_of.corners for m, made_of in SCORE_CAMS.items() if m in parts})
    return maps + channels + bool(maps or channels) + FEWEST * ("rise" in parts)


def take_steps(
    steps: Steps[Maps, Confidences, Shares], methods: Sequence[str]
) -> Task[tuple[dict[str, Maps], list[Shares]]]:
    """Return the maps of the methods and of their parts, by method, and all contribution shares. No pass is run twice.

    Maps and shares stay where they were computed.
    """
    recipes, parts = _recipes(methods), with_parts(methods)
    fusion = _Fusion.of(recipes.values())
    maps = {m: steps.gradient_map(m) for m in GRADIENT_MAPS if m in parts}
    denoised = {(m, theta): steps.denoise(maps[m], theta) for m, theta in fusion.noisy}
    of_fusions = len(steps.targets) * (len(fusion.regions) + len(fusion.unions))
    remaining = of_fusions + sum(steps.region_passes(m) for m in REGION if m in parts)
    of_denoised = yield from _score(steps, parts, list(denoised.values()), remaining)
    confidence = dict(zip(denoised, of_denoised, strict=True))
    for m in REGION:
        if m in parts:
            maps[m] = yield from steps.region_map(m, of_fusions)
    fused, shares = yield from _fuse(steps, recipes, maps, denoised, confidence)
    return maps | fused, shares


def _fuse(
    steps: Steps[Maps, Confidences, Shares],
    recipes: dict[str, Recipe],
    parts: dict[str, Maps],
    denoised: dict[tuple[str, float], Maps],
    of_denoised: dict[tuple[str, float], Confidences],
) -> Task[tuple[dict[str, Maps], list[Shares]]]:
    """Return the fused maps, by method, and their shares; maps of the same parts share U."""
    fusion, of_regions = _Fusion.of(recipes.values()), {}
    for m in fusion.regions:
        of_regions[m] = yield from steps.confidences(parts[m])
    wanted, fused, shares = set(recipes.values()), dict[Recipe, Maps](), list[Shares]()
    for gradient, region, theta in fusion.unions:
        noisy, of_region = (gradient, theta), of_regions[region]
        united, of_union = steps.unite(denoised[noisy], parts[region], of_denoised[noisy], of_region)
        shares.append(of_union)
        of_united = yield from steps.confidences(united)
        if (union := Recipe("union_cam", gradient, region, theta)) in wanted:
            union_steps = cast(UnionSteps[Maps, Confidences, Shares], steps)  # an engine without does not support it
            fused[union] = union_steps.choose(united, parts[region], of_united, of_region)
        if (fusion_cam := Recipe("fusion_cam", gradient, region, theta)) in wanted:
            fused[fusion_cam], of_blend = steps.blend(united, parts[region], of_united, of_union)
            shares.append(of_blend)
    return {method: fused[r] for method, r in recipes.items()}, shares


def _score(
    steps: Steps[Maps, Confidences, Shares], methods: Set[str], extra_maps: Sequence[Maps], remaining: int
) -> Task[Sequence[Confidences]]:
    """Run the passes of channels, once for each way to enlarge masks; return the confidences of the extra maps."""
    variants: list[bool | None] = list(dict.fromkeys(made.corners for m, made in SCORE_CAMS.items() if m in methods))
    variants = variants or [None] * bool(extra_maps)
    if not variants:
        return []
    sharing = len(variants) + ("rise" in methods)
    of_maps = yield from steps.score_channels(variants[0], extra_maps, remaining, sharing)
    for n, corners in enumerate(variants[1:], start=1):
        yield from steps.score_channels(corners, [], remaining, sharing - n)
    return of_maps


def make_maps(steps: Steps[Maps, Confidences, Shares], methods: Sequence[str]) -> Task[list[TargetMaps]]:
    """Return the maps of all targets of one picture, on the host, one `TargetMaps` per target.

    Args:
        steps: Where and on what the steps are computed.
        methods: The maps to make. The maps of their parts come along.
    """
    maps, shares = yield from take_steps(steps, methods)
    made = [TargetMaps() for _ in steps.targets]
    for method, of_targets in maps.items():
        arrays = steps.fetch(of_targets, "gradients" if method in GRADIENT_MAPS else "logits")
        for m, array in zip(made, arrays, strict=True):
            m.maps[method] = array
    special = [steps.flags(s) for s in shares]
    for n, m in enumerate(made):
        m.flags = _flat(m.maps)
        m.flags += ["cut_short"] * (not steps.passes.settled)
        m.flags += ["equal_contributions"] * any(of_targets[n][0] for of_targets in special)
        m.flags += ["mixed_contributions"] * any(of_targets[n][1] for of_targets in special)
    return made


def mean(views: Sequence[TargetMaps]) -> TargetMaps:
    """Return the mean maps of several views of a picture, brought to [0, 1] again; a flag holds where any raised it.

    `flat_METHOD` is the exception: it holds where the mean is blank.
    """
    if len(views) == 1:
        return views[0]
    means = {m: np.mean([view.maps[m] for view in views], axis=0) for m in views[0].maps}
    maps = {m: unit(array, array.ndim) for m, array in means.items()}
    raised = dict.fromkeys(f for view in views for f in view.flags if not f.startswith("flat_"))
    return TargetMaps(maps, [*_flat(maps), *raised])


def layers_of(views: Sequence[ViewResult]) -> list[tuple[str, ...]]:
    """Return the names of the layers that explain each target in any of several views, each once."""
    of_targets = zip(*(view.layers for view in views), strict=True)
    return [tuple(dict.fromkeys(chain.from_iterable(of_views))) for of_views in of_targets]


def _flat(maps: dict[str, Array]) -> list[str]:
    """Return a flag for each blank map."""
    return [f"flat_{method}" for method, array in maps.items() if not array.any()]
